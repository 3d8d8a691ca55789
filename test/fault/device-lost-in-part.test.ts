/** A GPU that is lost where a transfer needs it for some of its blocks only, or notices it alone. */
import { afterEach, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf, tiersOf } from '../support/outcomes.ts'
import { sim, untilQueued } from '../support/sim-engine.ts'
import { emptyDevice, store } from '../support/slots.ts'

/** CUDA_ERROR_LAUNCH_FAILED, as the driver answers from then on. */
const FAILED = 719
const LOST = 'ERR_KV_DEVICE_LOST'

afterEach(() => sim.release())

/** A manager whose device memory is a GPU's, and the failures that it tells of. */
async function withGpu(
  ordinal: number,
  run: (manager: BlockManager, heard: unknown[]) => Promise<void>,
): Promise<void> {
  const device = { kind: 'cuda', ordinal, slots: 16, strategies: { measure: 'never' } } as const
  await withManager({ device }, async (manager) => {
    const heard: unknown[] = []
    manager.on('tierFailed', ({ tier, code }) => void heard.push([tier, code]))
    await run(manager, heard)
  })
}

test('what lies on a lost GPU is no hit, though nothing had to be moved', async () => {
  await withGpu(0, async (manager, heard) => {
    const whole = manager.sequence(tokens(1, 32), { tenant: 'a' })
    await store(manager, whole)
    emptyDevice(manager)
    const half = manager.sequence(tokens(1, 16), { tenant: 'a' })
    const first = half.onboard({ after: fence.quiet() })
    const { pin } = await first.done
    await first.settled
    sim.hold()
    const onboard = whole.onboard({ after: fence.quiet() })
    await untilQueued(1)
    sim.loseDevice(0, FAILED)
    sim.release()
    const result = await onboard.done
    expect(codesOf(result)).toEqual(Array(8).fill(LOST))
    expect(tiersOf(result)).toEqual(Array(8).fill('none'))
    expect([result.tokens, result.arrived, result.pin?.blockCount]).toEqual([0, 0, 0])
    await onboard.settled
    // These are on the GPU, and pinned there: they were whole a moment ago.
    const again = half.onboard({ after: fence.quiet(), layerEvents: true })
    expect(await again.ready).toBeNull()
    const missed = await again.done
    expect(codesOf(missed)).toEqual(Array(4).fill(LOST))
    await again.settled
    for (const each of [pin, result.pin, missed.pin]) each?.release()
    expect(heard).toEqual([['device', LOST]])
    expect(manager.stats().tiers.device).toMatchObject({ held: 0, pinned: 0, filling: 0 })
    manager.checkAccounting()
  })
})

test('an offload that notices it alone says so', async () => {
  await withGpu(1, async (manager, heard) => {
    const reserved = manager.device.reserve(4)
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    sim.hold()
    const offload = sequence.offload({ from: reserved, after: fence.quiet() })
    await untilQueued(1)
    sim.loseDevice(1, FAILED)
    sim.release()
    expect(codesOf(await offload.done)).toEqual(Array(4).fill(LOST))
    await offload.settled
    expect(heard).toEqual([['device', LOST]])
    expect(manager.stats().tiers.device.failure).toBe(LOST)
    expect(manager.stats().counters).toMatchObject({ transferFailures: 4, abandoned: 0 })
    reserved.release()
    manager.checkAccounting()
  })
})
