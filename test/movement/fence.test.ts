import { describe, expect, test } from 'vitest'
import { checkFence, type Fence, fence } from '../../lib/movement/fence.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled } from '../support/io.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { checkPin, compute, load, store } from '../support/slots.ts'

const threads = { engine: { threads: THREADS } }

describe('a fence', () => {
  test('must be named: nothing else is taken for one', async () => {
    expect(checkFence('after', fence.quiet())).toEqual({ kind: 'quiet' })
    const wrong = [
      undefined,
      null,
      0,
      'quiet',
      {},
      { kind: 'event' },
      { kind: 'promise' },
      // biome-ignore lint/suspicious/noThenProperty: an object that only looks like a promise is what is refused here
      { kind: 'promise', promise: { then: () => 0 } },
    ]
    for (const value of wrong) errorOf('ERR_KV_INVALID_TYPE', () => checkFence('after', value))
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      for (const after of wrong as Fence[]) {
        errorOf('ERR_KV_INVALID_TYPE', () => sequence.onboard({ after }))
        const slots = manager.device.reserve(4)
        errorOf('ERR_KV_INVALID_TYPE', () => sequence.offload({ from: slots, after }))
        slots.release()
      }
      expectQuiet(manager)
    })
  })

  test('that is quiet lets the transfer start at once', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect((await store(manager, sequence)).tokens).toBe(16)
      expect((await load(manager, sequence)).tokens).toBe(16)
    })
  })

  test('that resolves late is waited for: what was written until then is what is stored', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      const produced = deferred()
      const transfer = sequence.offload({ from: slots, after: fence.promise(produced.promise) })
      expect(await isSettled(transfer.done)).toBe(false)
      await compute(manager, sequence, slots, 0)
      produced.resolve()
      expect(codesOf(await transfer.done)).toEqual(Array(4).fill('OK'))
      await transfer.settled
      slots.release()
      const used = deferred()
      const loading = sequence.onboard({ after: fence.promise(used.promise) })
      expect(await isSettled(loading.done)).toBe(false)
      used.resolve()
      const result = await loading.done
      expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 4, wrong: 0 })
      result.pin?.release()
      expectQuiet(manager)
    })
  })

  test('that rejects makes every block a miss, and nothing is stored', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      const after = fence.promise(Promise.reject(new Error('the kernel failed')))
      const transfer = sequence.offload({ from: slots, after })
      const result = await transfer.done
      expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_ABORTED'))
      await transfer.settled
      slots.release()
      expect(sequence.match().tokens).toBe(0)
      await store(manager, sequence)
      const loading = sequence.onboard({ after })
      const missed = await loading.done
      expect(missed).toMatchObject({ tokens: 0, arrived: 0 })
      missed.pin?.release()
      await loading.settled
      expectQuiet(manager)
    })
  })

  test.each(['deadline', 'signal', 'cancel'])(
    'that never resolves is ended by a %s, and the transfer settles',
    async (end) => {
      await withManager(threads, async (manager) => {
        const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
        await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }))
        const after = fence.promise(new Promise(() => undefined))
        const controller = new AbortController()
        const limits = end === 'deadline' ? { deadlineMs: 1 } : end === 'signal' ? { signal: controller.signal } : {}
        const slots = manager.device.reserve(4)
        const storing = sequence.offload({ from: slots, after, until: 'disk', ...limits })
        const loading = manager.sequence(tokens(2, 16), { tenant: 'a' }).onboard({ after, ...limits })
        if (end !== 'deadline') expect(await isSettled(Promise.race([storing.done, loading.done]))).toBe(false)
        controller.abort()
        if (end === 'cancel') for (const each of [storing, loading]) each.cancel()
        const code = end === 'deadline' ? 'ERR_KV_DEADLINE' : 'ERR_KV_ABORTED'
        for (const transfer of [storing, loading]) {
          const result = await transfer.done
          expect(codesOf(result)).toEqual(Array(4).fill(code))
          await transfer.settled
          result.pin?.release()
        }
        slots.release()
        expectQuiet(manager)
      })
    },
  )

  test('that rejects after its transfer was ended is nobody’s unhandled rejection', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown): void => {
      unhandled.push(reason)
    }
    process.on('unhandledRejection', note)
    try {
      await withManager(threads, async (manager) => {
        const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
        const slots = manager.device.reserve(4)
        const fences = [deferred(), deferred(), deferred(), deferred()]
        const [one, two, three, four] = fences.map((each) => fence.promise(each.promise)) as [
          Fence,
          Fence,
          Fence,
          Fence,
        ]
        const signal = AbortSignal.abort()
        const transfers = [
          sequence.offload({ from: slots, after: one, signal }),
          sequence.onboard({ after: two, signal }),
          sequence.offload({ from: slots, after: three }),
          sequence.onboard({ after: four }),
        ]
        for (const each of transfers) each.cancel()
        await Promise.all(transfers.map((each) => each.settled))
        for (const each of fences) each.reject(new Error('too late'))
        await isSettled(Promise.resolve())
        slots.release()
        expectQuiet(manager)
      })
    } finally {
      process.off('unhandledRejection', note)
    }
    expect(unhandled).toEqual([])
  })
})
