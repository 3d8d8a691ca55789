/** What the loss of a GPU is told of, and what it is not: one that only a fence names, and blocks that had arrived before. */
import { afterEach, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { withHeldIo } from '../support/io.ts'
import { TEST_STRIDE, tokens, withManager } from '../support/manager.ts'
import { codesOf } from '../support/outcomes.ts'
import { sim } from '../support/sim-engine.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

/** CUDA_ERROR_LAUNCH_FAILED, as the driver answers from then on. */
const FAILED = 719
const LOST = 'ERR_KV_DEVICE_LOST'
const DEVICE = { kind: 'cuda', ordinal: 0, slots: 16, strategies: { measure: 'never' } } as const

afterEach(() => sim.release())

/** A prompt of 8 blocks, of which host memory holds the last 4 and disk all. */
async function withHalf(run: (manager: BlockManager) => Promise<void>): Promise<void> {
  await withManager({ device: DEVICE, host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
    const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
    for (const firstBlock of [0, 4]) await store(manager, sequence, { until: 'disk', firstBlock, blocks: 4 })
    emptyDevice(manager)
    await run(manager)
  })
}

test('work of a lost GPU that holds no block fails what waits for it, and no more', async () => {
  await withManager({ device: DEVICE }, async (manager) => {
    const heard: unknown[] = []
    manager.on('tierFailed', (event) => void heard.push(event))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, sequence)
    const event = sim.makeEvent(1)
    sim.loseDevice(1, FAILED)
    const transfer = sequence.onboard({ after: fence.event(event, { ordinal: 1 }) })
    const result = await transfer.done
    expect(codesOf(result)).toEqual(Array(4).fill(LOST))
    result.pin?.release()
    await transfer.settled
    expect(manager.stats().tiers.device).toMatchObject({ failure: null, held: 4 })
    expect(heard).toEqual([])
    expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
  })
})

test('blocks that arrived before the GPU was lost are forgotten when their onboard ends', async () => {
  await withHalf(async (manager) => {
    const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
    expect(sequence.match().byTier).toMatchObject({ host: 16, disk: 16 })
    const onboard = await withHeldIo(async () => {
      const started = sequence.onboard({ after: fence.quiet() })
      while (manager.stats().tiers.device.held < 4) await new Promise((resolve) => setImmediate(resolve))
      sim.loseDevice(0, FAILED)
      return started
    })
    const result = await onboard.done
    expect([result.tokens, manager.stats().tiers.device.failure]).toEqual([0, LOST])
    await onboard.settled
    // Also where nobody gives back a pin that holds nothing.
    expect(manager.stats().tiers.device).toMatchObject({ held: 0, pinned: 0, filling: 0 })
    expect(sequence.match().byTier.device).toBe(0)
    manager.checkAccounting()
  })
})
