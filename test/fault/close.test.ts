import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { KvError } from '../../lib/errors.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { isSettled, testing, turn, untilHeld, withHeldIo } from '../support/io.ts'
import { testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, tiersOf } from '../support/outcomes.ts'
import { compute, load, store } from '../support/slots.ts'

// Deadlines pass when a test says so, not when a clock does.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

const threads = { engine: { threads: THREADS } }

/** Opens a directory as soon as nobody has it any more. */
async function reopened(options: ManagerOptions): Promise<BlockManager> {
  for (;;) {
    try {
      return await BlockManager.open(options)
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_KV_LOCKED' })
      await turn()
    }
  }
}

describe('closing while the disk does not answer', () => {
  test('ends what outlasts the deadline with ERR_KV_CLOSED, and resolves when the disk has answered', async () => {
    await withDisk([1], 32, async (manager, directory) => {
      await withHeldIo(async () => {
        const loading = manager
          .sequence(tokens(1, 32), { tenant: 'a' })
          .onboard({ after: fence.quiet(), deadlineMs: 0 })
        await untilHeld()
        const closing = manager.close({ deadlineMs: 50 })
        expect(await isSettled(loading.done)).toBe(false)
        vi.advanceTimersByTime(50)
        const result = await loading.done
        expect(codesOf(result)).toEqual(Array(8).fill('ERR_KV_CLOSED'))
        expect(await isSettled(closing)).toBe(false)
        testing.releaseIo()
        await loading.settled
        await closing
        result.pin?.release()
      })
      manager.checkAccounting()
      const next = await BlockManager.open(testOptions(directory))
      expect(await load(next, next.sequence(tokens(1, 32), { tenant: 'a' }))).toMatchObject({ tokens: 32, wrong: 0 })
      await next.close()
    })
  })

  test('ends an offload on its way to disk: what reached host memory says host, and the write still ends', async () => {
    await withManager(threads, async (manager, _, directory) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      await withHeldIo(async () => {
        const storing = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk', deadlineMs: 0 })
        await untilHeld()
        const closing = manager.close({ deadlineMs: 50 })
        vi.advanceTimersByTime(50)
        const result = await storing.done
        expect(tiersOf(result)).toEqual(Array(8).fill('host'))
        expect(await isSettled(closing)).toBe(false)
        testing.releaseIo()
        await closing
        await storing.settled
      })
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(8)
      expect(await load(next, next.sequence(tokens(1, 32), { tenant: 'a' }))).toMatchObject({ tokens: 32, wrong: 0 })
      await next.close()
    })
  })

  test.each(['loads', 'writes what only host memory holds'])(
    'rejects with ERR_KV_DEADLINE when it never does while it %s, and gives everything back when it does all the same',
    async (what) => {
      await withDirectory(async (directory) => {
        const options = testOptions(directory, threads)
        const manager = await BlockManager.open(options)
        const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
        await store(manager, sequence, { until: what === 'loads' ? 'disk' : 'host' })
        if (what === 'loads') {
          await manager.close()
        }
        const busy = what === 'loads' ? await BlockManager.open(options) : manager
        testing.holdIo()
        if (what === 'loads') {
          busy.sequence(tokens(1, 32), { tenant: 'a' }).onboard({ after: fence.quiet(), deadlineMs: 0 })
          await untilHeld()
        }
        let end = 'waits'
        const closing = busy.close({ deadlineMs: 50 }).catch((error: KvError) => {
          end = error.code
        })
        await untilHeld()
        vi.advanceTimersByTime(5000)
        await turn()
        expect(end).toBe('waits')
        vi.advanceTimersByTime(20_000)
        await closing
        expect(end).toBe('ERR_KV_DEADLINE')
        expect(testing.heldIo()).toBeGreaterThan(0)
        testing.releaseIo()
        const next = await reopened(options)
        // What was on its way when it was given up may have arrived.
        expect((await load(next, next.sequence(tokens(1, 32), { tenant: 'a' }))).wrong).toBe(0)
        await next.close()
      })
    },
  )

  test('lets transfers that end in time end as they would have', async () => {
    await withDisk([1], 32, async (manager) => {
      await withHeldIo(async () => {
        const loading = manager.sequence(tokens(1, 32), { tenant: 'a' }).onboard({ after: fence.quiet() })
        await untilHeld()
        const closing = manager.close({ deadlineMs: 50 })
        vi.advanceTimersByTime(49)
        testing.releaseIo()
        const result = await loading.done
        expect(codesOf(result)).toEqual(Array(8).fill('OK'))
        result.pin?.release()
        await closing
      })
    })
  })

  test('ends a wait for a fence that never comes', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      const storing = sequence.offload({
        from: slots,
        after: fence.promise(new Promise(() => undefined)),
        deadlineMs: 0,
      })
      const closing = manager.close({ deadlineMs: 50 })
      expect(await isSettled(closing)).toBe(false)
      vi.advanceTimersByTime(50)
      expect(codesOf(await storing.done)).toEqual(Array(4).fill('ERR_KV_CLOSED'))
      await closing
      slots.release()
      manager.checkAccounting()
    })
  })

  test('with a deadline of 0 ends everything that has not ended', async () => {
    await withDisk([1, 2], 32, async (manager) => {
      await withHeldIo(async () => {
        const loads = [1, 2].map((seed) =>
          manager.sequence(tokens(seed, 32), { tenant: 'a' }).onboard({ after: fence.quiet(), deadlineMs: 0 }),
        )
        await untilHeld(2)
        const closing = manager.close({ deadlineMs: 0 })
        vi.advanceTimersByTime(1)
        for (const each of loads) expect(codesOf(await each.done)).toEqual(Array(8).fill('ERR_KV_CLOSED'))
        testing.releaseIo()
        await closing
        for (const each of loads) (await each.done).pin?.release()
      })
      manager.checkAccounting()
    })
  })

  test.each([-1, 0.5, 2 ** 31, '5'])(
    'is refused with a deadline of %s, and can be asked for again',
    async (deadlineMs) => {
      await withManager(threads, async (manager) => {
        await expect(manager.close({ deadlineMs: deadlineMs as number })).rejects.toMatchObject({ name: 'KvError' })
        manager.sequence(tokens(1, 16), { tenant: 'a' })
        await manager.close()
      })
    },
  )
})

test('a manager that is disposed asynchronously is closed', async () => {
  let held: BlockManager
  {
    await using manager = await BlockManager.open(testOptions(null))
    held = manager
  }
  expect(() => held.sequence([1], { tenant: 'a' })).toThrow(expect.objectContaining({ code: 'ERR_KV_CLOSED' }))
})
