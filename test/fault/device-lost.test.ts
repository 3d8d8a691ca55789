/** A GPU that fails for good: its tier is sick, everything else goes on. One process, whose GPUs are lost one by one. */
import { afterEach, describe, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import type { ManagerEvents } from '../../lib/events.ts'
import { fence } from '../../lib/movement/fence.ts'
import { errorOf } from '../support/expect-code.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf } from '../support/outcomes.ts'
import { sim, untilQueued } from '../support/sim-engine.ts'
import { emptyDevice, store } from '../support/slots.ts'

/** CUDA_ERROR_LAUNCH_FAILED, as the driver answers from then on. */
const FAILED = 719
const LOST = 'ERR_KV_DEVICE_LOST'

afterEach(() => sim.release())

function device(ordinal: number) {
  return { kind: 'cuda', ordinal, slots: 16, strategies: { measure: 'never' } } as const
}

/** Blocks are in host memory and on disk, some on the device. */
async function withBlocks(
  ordinal: number,
  run: (manager: BlockManager, heard: unknown[]) => Promise<void>,
): Promise<void> {
  await withManager({ device: device(ordinal) }, async (manager) => {
    const heard: unknown[] = []
    const hear = (event: ManagerEvents['tierFailed']) => void heard.push([event.tier, event.code])
    manager.on('tierFailed', hear)
    for (const seed of [1, 2, 3]) {
      await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      if (seed === 1) emptyDevice(manager)
    }
    await run(manager, heard)
  })
}

describe('a GPU that is lost', () => {
  test('between transfers makes every following one misses, once told, while host memory and disk go on', async () => {
    await withBlocks(0, async (manager, heard) => {
      sim.loseDevice(0, FAILED)
      const first = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const load = first.onboard({ after: fence.quiet(), layerEvents: true })
      const loaded = await load.done
      expect(codesOf(loaded)).toEqual(Array(4).fill(LOST))
      expect(loaded).toMatchObject({ tokens: 0, arrived: 0 })
      expect(loaded.message).not.toBe('')
      expect(await load.ready).toBeNull()
      await load.settled
      expect(heard).toEqual([['device', LOST]])
      expect(manager.stats().tiers.device).toMatchObject({ failure: LOST, held: 0, pinned: 0, filling: 0 })
      loaded.pin?.release()
      expect(manager.stats().tiers.host.failure).toBeNull()
      // What it held is forgotten: the rest of the blocks would come from host memory or disk.
      const second = manager.sequence(tokens(2, 16), { tenant: 'a' })
      expect(second.match()).toMatchObject({ tokens: 16, byTier: { device: 0 } })
      const again = second.onboard({ after: [fence.stream(0n), fence.quiet()] })
      const missed = await again.done
      expect(codesOf(missed)).toEqual(Array(4).fill(LOST))
      missed.pin?.release()
      await again.settled
      errorOf(LOST, () => manager.device.reserve(1))
      for (const sequence of [first, second]) {
        const reading = await manager.host.load(sequence)
        expect(reading.result.tokens).toBe(16)
        reading.release()
      }
      expect(heard).toEqual([['device', LOST]])
      manager.checkAccounting()
    })
  })

  test('while its work is under way ends the transfer with misses, and nothing is visible or kept', async () => {
    await withBlocks(1, async (manager, heard) => {
      const sequence = manager.sequence(tokens(9, 16), { tenant: 'a' })
      const reserved = manager.device.reserve(4)
      const held = await manager.sequence(tokens(3, 16), { tenant: 'a' }).onboard({ after: fence.quiet() }).done
      sim.hold()
      const offload = sequence.offload({ from: reserved, after: fence.quiet(), until: 'disk' })
      const onboard = manager.sequence(tokens(1, 16), { tenant: 'a' }).onboard({ after: fence.quiet() })
      await untilQueued(2)
      sim.loseDevice(1, FAILED)
      sim.release()
      for (const transfer of [offload, onboard]) {
        const result = await transfer.done
        expect(codesOf(result)).toEqual(Array(4).fill(LOST))
        await transfer.settled
        result.pin?.release()
      }
      expect(sequence.match().tokens).toBe(0)
      expect(heard).toEqual([['device', LOST]])
      const failed = sequence.offload({ from: reserved, after: fence.quiet() })
      expect(codesOf(await failed.done)).toEqual(Array(4).fill(LOST))
      await failed.settled
      reserved.release()
      // Pins that were handed out before stay valid to release; then their copies are forgotten, too.
      expect(manager.stats().tiers.device.pinned).toBe(4)
      held.pin?.release()
      expect(manager.stats().tiers.device).toMatchObject({ held: 0, pinned: 0, filling: 0, free: 16 })
      manager.checkAccounting()
    })
  })

  test('cannot be opened again, which says so; without it everything works', async () => {
    await expect(withManager({ device: device(0) }, async () => undefined)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_KV_(DEVICE_LOST|IO|UNSUPPORTED)$/),
    })
    await withManager({ device: { kind: 'host', slots: 32 } }, async (manager) => {
      expect((await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))).tokens).toBe(16)
    })
  })
})
