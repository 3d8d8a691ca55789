/**
 * An engine with as few threads as there can be, while the disk of one manager does not answer: other managers, and what
 * the same manager does in memory, go on. In a file of its own: the first manager of a process decides how many threads
 * there are.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { withDisk } from '../support/disk.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { testOptions, tokens } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, load, store } from '../support/slots.ts'

const engine = { engine: { threads: 1 } }

// Deadlines pass when a test says so, not when a clock does.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Runs while the threads that a disk may have wait for it, in loads of `busy`. */
async function withBusyDisk(run: (busy: BlockManager) => Promise<void>): Promise<void> {
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

describe('while a disk does not answer', () => {
  test('another manager stores in host memory and loads from there', async () => {
    const manager = await BlockManager.open(testOptions(null, engine))
    const sequence = manager.sequence(tokens(2, 32), { tenant: 'a' })
    const slots = manager.device.reserve(8)
    await compute(manager, sequence, slots, 0)
    await withBusyDisk(async () => {
      const storing = sequence.offload({ from: slots, after: fence.quiet(), deadlineMs: 0 })
      expect(codesOf(await storing.done)).toEqual(Array(8).fill('OK'))
      await storing.settled
      slots.release()
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expect(testing.heldIo()).toBeGreaterThan(0)
    })
    expectQuiet(manager)
    await manager.close()
  })

  test('another manager opens, publishes, hashes a long prompt and closes', async () => {
    await withBusyDisk(async () => {
      const manager = await BlockManager.open(testOptions(null, engine))
      const reservation = await manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
      expect(codesOf(await reservation.publish())).toEqual(Array(4).fill('OK'))
      // More tokens than are hashed on the event loop.
      const long = manager.sequence(tokens(3, 100_000), { tenant: 'a' })
      expect((await long.onboard({ after: fence.quiet() }).done).tokens).toBe(0)
      await manager.close()
      expect(testing.heldIo()).toBeGreaterThan(0)
    })
  })

  test('the same manager stores in host memory, and its next load of the disk misses at its deadline', async () => {
    await withBusyDisk(async (busy) => {
      const sequence = busy.sequence(tokens(2, 16), { tenant: 'a' })
      expect(tiersOf(await store(busy, sequence, { until: 'host' }))).toEqual(Array(4).fill('host'))
      const waiting = busy.sequence(tokens(1, 16), { tenant: 'a' }).onboard({ after: fence.quiet(), deadlineMs: 50 })
      expect(await isSettled(waiting.done)).toBe(false)
      vi.advanceTimersByTime(50)
      expect(codesOf(await waiting.done)).toEqual(Array(4).fill('ERR_KV_DEADLINE'))
    })
  })

  test('a load that waits for it gets the right bytes when it answers', async () => {
    await withBusyDisk(async (busy) => {
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
