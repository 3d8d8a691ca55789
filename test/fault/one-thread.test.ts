/**
 * An engine of one thread, which a held call of one manager occupies while another manager's work waits. In a file of its
 * own: the first manager of a process decides how many threads there are.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { withDisk } from '../support/disk.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { testOptions, tokens } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { checkPin, compute, load } from '../support/slots.ts'

const engine = { engine: { threads: 1 } }

// Deadlines pass when a test says so, not when a clock does.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Runs while the only thread waits for the disk, in a load of `busy`. */
async function withBusyThread(run: (busy: BlockManager) => Promise<void>): Promise<void> {
  await withDisk(
    [1],
    32,
    async (busy) => {
      await withHeldIo(async () => {
        const loading = busy.sequence(tokens(1, 32), { tenant: 'a' }).onboard({ after: fence.quiet(), deadlineMs: 0 })
        await untilHeld()
        await run(busy)
        testing.releaseIo()
        const result = await loading.done
        expect(result.tokens).toBe(32)
        result.pin?.release()
        await loading.settled
      })
      expectQuiet(busy)
    },
    engine,
  )
}

describe('while the engine is busy for another manager', () => {
  test('an offload that never started is a miss at its deadline, has settled, and can be tried again', async () => {
    const manager = await BlockManager.open(testOptions(null, engine))
    const sequence = manager.sequence(tokens(2, 32), { tenant: 'a' })
    const slots = manager.device.reserve(8)
    await compute(manager, sequence, slots, 0)
    await withBusyThread(async () => {
      const storing = sequence.offload({ from: slots, after: fence.quiet(), deadlineMs: 50 })
      expect(await isSettled(storing.done)).toBe(false)
      vi.advanceTimersByTime(50)
      expect(codesOf(await storing.done)).toEqual(Array(8).fill('ERR_KV_DEADLINE'))
      await storing.settled
      expect(manager.stats().tiers.host.filling).toBe(0)
      const again = sequence.offload({ from: slots, after: fence.quiet(), deadlineMs: 0 })
      expect(await isSettled(again.done)).toBe(false)
      testing.releaseIo()
      expect(codesOf(await again.done)).toEqual(Array(8).fill('OK'))
      await again.settled
    })
    slots.release()
    expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
    expectQuiet(manager)
    await manager.close()
  })

  test('closing ends what is queued: a publish has a miss for every block, and nothing of it is visible', async () => {
    const { device: _, ...withoutDevice } = testOptions(null, engine)
    const manager = await BlockManager.open(withoutDevice)
    const sequence = manager.sequence(tokens(2, 16), { tenant: 'a' })
    await withBusyThread(async () => {
      const reservation = await manager.host.reserve(sequence)
      const publishing = reservation.publish()
      expect(await isSettled(publishing)).toBe(false)
      const closing = manager.close()
      const result = await publishing
      expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_CLOSED'))
      expect(result).toMatchObject({ tokens: 0, arrived: 0, bytes: 0 })
      expect(manager.stats().tiers.host).toMatchObject({ held: 0, filling: 0 })
      testing.releaseIo()
      await closing
    })
    manager.checkAccounting()
  })

  test('an onboard waits its turn, and gets the right bytes', async () => {
    await withBusyThread(async (busy) => {
      const sequence = busy.sequence(tokens(1, 16), { tenant: 'a' })
      const waiting = sequence.onboard({ after: fence.quiet(), deadlineMs: 0 })
      expect(await isSettled(waiting.done)).toBe(false)
      testing.releaseIo()
      const result = await waiting.done
      expect(result.tokens).toBe(16)
      expect(await checkPin(busy, sequence, result.pin)).toEqual({ checked: 4, wrong: 0 })
      result.pin?.release()
      await waiting.settled
    })
  })
})
