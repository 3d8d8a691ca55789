import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import {
  Outcomes,
  settleThen,
  type Transfer,
  TransferControl,
  type TransferLimits,
} from '../../lib/movement/transfer.ts'
import { completions } from '../../lib/native/completions.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, load, store } from '../support/slots.ts'

// Deadlines pass when a test says so, not when a clock does.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

const threads = { engine: { threads: THREADS } }
const ALL = (code: string) => Array<string>(8).fill(code)

/** Ways to end a transfer, and the code that its blocks have then. */
const ENDS: readonly (readonly [string, string, (run: (limits: TransferLimits) => Transfer) => Transfer])[] = [
  [
    'a deadline',
    'ERR_KV_DEADLINE',
    (run) => {
      const transfer = run({ deadlineMs: 50 })
      void untilHeld().then(() => vi.advanceTimersByTime(50))
      return transfer
    },
  ],
  [
    'an AbortSignal',
    'ERR_KV_ABORTED',
    (run) => {
      const controller = new AbortController()
      const transfer = run({ signal: controller.signal })
      void untilHeld().then(() => controller.abort())
      return transfer
    },
  ],
  [
    'cancel',
    'ERR_KV_ABORTED',
    (run) => {
      const transfer = run({})
      void untilHeld().then(() => transfer.cancel())
      return transfer
    },
  ],
]

/** After the I/O is released, everything is as if the transfer had never been. */
async function expectUsable(manager: BlockManager, sequence: Sequence): Promise<void> {
  expectQuiet(manager)
  expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
  emptyDevice(manager)
  expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
  expectQuiet(manager)
}

describe('while the disk does not answer', () => {
  test.each(ENDS)('%s turns an onboard into misses; it settles when the disk has answered', async (_, code, start) => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        const transfer = start((limits) => sequence.onboard({ after: fence.quiet(), ...limits }))
        const result = await transfer.done
        expect(await transfer.ready).toBeNull()
        expect(codesOf(result)).toEqual(ALL(code))
        expect(tiersOf(result)).toEqual(ALL('none'))
        expect(result).toMatchObject({ tokens: 0, arrived: 0, bytes: 0 })
        expect(result.message).not.toBe('')
        expect(result.pin?.blockCount).toBe(0)
        expect(testing.heldIo()).toBeGreaterThan(0)
        expect(await isSettled(transfer.settled)).toBe(false)
        // Its slots are not given to anybody else meanwhile.
        expect(manager.stats().tiers.device.filling).toBe(8)
        testing.releaseIo()
        await transfer.settled
      })
      expect(manager.stats().counters).toMatchObject({ abandoned: 8, onboardedFromDisk: 0, transferFailures: 0 })
      await expectUsable(manager, sequence)
    })
  })

  test.each(ENDS)('%s ends an offload that must write others to disk first', async (_, code, start) => {
    await withManager({ ...threads, host: { capacityBytes: 8 * 16_384 } }, async (manager) => {
      const other = manager.sequence(tokens(2, 32), { tenant: 'a' })
      await store(manager, other)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      await withHeldIo(async () => {
        const transfer = start((limits) => sequence.offload({ from: slots, after: fence.quiet(), ...limits }))
        const result = await transfer.done
        expect(codesOf(result)).toEqual(ALL(code))
        expect(testing.heldIo()).toBeGreaterThan(0)
        testing.releaseIo()
        await transfer.settled
      })
      slots.release()
      expectQuiet(manager)
      expect(sequence.match().tokens).toBe(0)
      emptyDevice(manager)
      await expectUsable(manager, other)
      expect((await store(manager, sequence)).arrived).toBe(8)
      await expectUsable(manager, sequence)
    })
  })

  test.each(ENDS)(
    '%s ends the wait for disk; the blocks stay in host memory, and the write goes on',
    async (_, _code, start) => {
      await withManager(threads, async (manager) => {
        const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
        const slots = manager.device.reserve(8)
        await compute(manager, sequence, slots, 0)
        await withHeldIo(async () => {
          const transfer = start((limits) =>
            sequence.offload({ from: slots, after: fence.quiet(), until: 'disk', ...limits }),
          )
          const result = await transfer.done
          expect(codesOf(result)).toEqual(ALL('OK'))
          expect(tiersOf(result)).toEqual(ALL('host'))
          expect(await isSettled(transfer.settled)).toBe(false)
          testing.releaseIo()
          await transfer.settled
        })
        slots.release()
        expect(manager.stats().tiers.disk.held).toBe(8)
        await expectUsable(manager, sequence)
      })
    },
  )

  test.each(ENDS)('%s ends a load into host memory', async (_, code, start) => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        let reading: ReturnType<BlockManager['host']['load']> | null = null
        // `load` has no `cancel`: what ends it is a deadline or a signal.
        const controller = new AbortController()
        start((limits) => {
          reading = manager.host.load(sequence, { signal: controller.signal, ...limits })
          return { cancel: () => controller.abort() } as Transfer
        })
        const held = await reading!
        expect(codesOf(held.result)).toEqual(ALL(code))
        expect(() => held.window(0)).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
        held.release()
        testing.releaseIo()
      })
      while (manager.stats().tiers.disk.pinned > 0) await isSettled(Promise.resolve())
      await expectUsable(manager, sequence)
    })
  })

  test('another onboard of the same blocks waits, and gets them when the disk answers', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        const late = sequence.onboard({ after: fence.quiet(), deadlineMs: 50 })
        await untilHeld()
        vi.advanceTimersByTime(50)
        expect(codesOf(await late.done)).toEqual(ALL('ERR_KV_DEADLINE'))
        const second = sequence.onboard({ after: fence.quiet(), deadlineMs: 0 })
        const third = sequence.onboard({ after: fence.quiet(), deadlineMs: 50 })
        expect(await isSettled(third.done)).toBe(false)
        vi.advanceTimersByTime(50)
        expect(codesOf(await third.done)).toEqual(ALL('ERR_KV_DEADLINE'))
        expect(await isSettled(second.done)).toBe(false)
        testing.releaseIo()
        const result = await second.done
        expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 8, wrong: 0 })
        result.pin?.release()
        await Promise.all([late.settled, second.settled, third.settled])
      })
      await expectUsable(manager, sequence)
    })
  })

  test('a request for other blocks, in host memory, does not wait', async () => {
    await withDisk([1], 16, async (manager) => {
      const other = manager.sequence(tokens(2, 16), { tenant: 'a' })
      await store(manager, other)
      emptyDevice(manager)
      await withHeldIo(async () => {
        const slow = manager.sequence(tokens(1, 16), { tenant: 'a' }).onboard({ after: fence.quiet() })
        await untilHeld()
        expect(await load(manager, other)).toMatchObject({ tokens: 16, wrong: 0 })
        testing.releaseIo()
        const result = await slow.done
        expect(result.tokens).toBe(16)
        result.pin?.release()
        await slow.settled
      })
      expectQuiet(manager)
    })
  })
})

describe('a signal', () => {
  test('that was aborted before the call moves nothing', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      const signal = AbortSignal.abort()
      const store = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk', signal })
      expect(codesOf(await store.done)).toEqual(ALL('ERR_KV_ABORTED'))
      await store.settled
      const loading = sequence.onboard({ after: fence.quiet(), signal })
      const nothing = await loading.done
      expect(nothing).toMatchObject({ blockCount: 0, tokens: 0, arrived: 0 })
      expect(nothing.message).toContain('ERR_KV_ABORTED')
      await loading.settled
      slots.release()
      expect(manager.stats().counters).toMatchObject({ offloadedToHost: 0, diskWrites: 0 })
      expectQuiet(manager)
    })
  })

  test('that is aborted after the end changes nothing, and is not listened to any more', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      const controller = new AbortController()
      const { signal } = controller
      const transfer = sequence.offload({ from: slots, after: fence.quiet(), signal })
      expect(getEventListeners(signal, 'abort')).toHaveLength(1)
      expect(codesOf(await transfer.done)).toEqual(ALL('OK'))
      await transfer.settled
      expect(getEventListeners(signal, 'abort')).toHaveLength(0)
      controller.abort()
      transfer.cancel()
      slots.release()
      expect(sequence.match().tokens).toBe(32)
      await expectUsable(manager, sequence)
    })
  })

  test.each([0, 1, 2, 3, 4, 6, 8])('that is aborted %d turns in leaves every block whole or missing', async (turns) => {
    await withManager({ ...threads, host: { capacityBytes: 12 * 16_384 } }, async (manager) => {
      for (let seed = 1; seed <= 6; seed++) {
        const sequence = manager.sequence(tokens(seed, 32), { tenant: 'a' })
        const slots = manager.device.reserve(8)
        await compute(manager, sequence, slots, 0)
        const controller = new AbortController()
        const transfer = sequence.offload({
          from: slots,
          after: fence.quiet(),
          until: 'disk',
          signal: controller.signal,
        })
        for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
        controller.abort()
        const result = await transfer.done
        await transfer.settled
        slots.release()
        for (let i = 0; i < 8; i++) expect(['OK', 'ERR_KV_ABORTED']).toContain(result.code(i))
        expect(sequence.match().tokens).toBe(result.tokens)
        emptyDevice(manager)
        const found = await load(manager, sequence)
        expect(found.wrong).toBe(0)
        expectQuiet(manager)
      }
    })
  })
})

describe('the end of a transfer', () => {
  const control = () => new TransferControl(completions(), {}, 0)

  test('is heard of also when something of it was rejected, and when nothing touches the memory any more', async () => {
    const broken = control()
    const written = deferred()
    broken.settleAfter(Promise.reject(new Error('broken')))
    broken.settleAfter(written.promise)
    let ended = false
    const end = settleThen(broken, () => {
      ended = true
    })
    expect(await isSettled(end)).toBe(false)
    written.resolve()
    await end
    expect(ended).toBe(true)
    await expect(broken.settle()).rejects.toThrow('broken')
  })

  test('waits for what was added while it waited', async () => {
    const growing = control()
    const last = deferred()
    growing.settleAfter(Promise.resolve().then(() => growing.settleAfter(last.promise)))
    const settled = growing.settle()
    expect(await isSettled(settled)).toBe(false)
    last.resolve()
    await settled
  })

  test('comes a whole deadline after it was restarted', () => {
    const parts = new TransferControl(completions(), {}, 50)
    vi.advanceTimersByTime(49)
    parts.restartDeadline()
    vi.advanceTimersByTime(49)
    expect(parts.code).toBeNull()
    vi.advanceTimersByTime(1)
    expect(parts.code).toBe('ERR_KV_DEADLINE')
  })
})

describe('a transfer whose blocks were handed out before it was done', () => {
  test('is ended by closing the manager, and by nothing else', () => {
    const controller = new AbortController()
    const control = new TransferControl(completions(), { signal: controller.signal }, 50)
    control.commit()
    expect(vi.getTimerCount()).toBe(0)
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
    controller.abort()
    control.cancel('ERR_KV_ABORTED')
    control.cancel('ERR_KV_DEADLINE')
    expect(control.code).toBeNull()
    control.cancel('ERR_KV_CLOSED')
    expect(control.code).toBe('ERR_KV_CLOSED')
  })

  test('keeps the code that it was ended with before', () => {
    const control = new TransferControl(completions(), {}, 0)
    control.cancel('ERR_KV_ABORTED')
    control.commit()
    control.cancel('ERR_KV_CLOSED')
    expect(control.code).toBe('ERR_KV_ABORTED')
  })
})

describe('outcomes', () => {
  test('are named for every block, and asking for another one throws', () => {
    const outcomes = new Outcomes(3)
    outcomes.succeed(0, 1, Math.min)
    outcomes.fail(1, 'ERR_KV_IO', 'the disk')
    outcomes.succeed(1, 2, Math.min)
    outcomes.succeed(2, 2, Math.min)
    expect(outcomes.run).toBe(1)
    const result = outcomes.result(24, null)
    expect(result).toMatchObject({ blockCount: 3, tokens: 24, arrived: 2, message: 'the disk' })
    expect([0, 1, 2].map((i) => [result.code(i), result.tier(i)])).toEqual([
      ['OK', 'host'],
      ['ERR_KV_IO', 'none'],
      ['OK', 'disk'],
    ])
    for (const i of [-1, 3, 0.5, Number.NaN]) {
      expect(() => result.code(i)).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
      expect(() => result.tier(i)).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
    }
  })

  test('of blocks that no layer group keeps are those of the others, and misses where the others are', () => {
    const outcomes = new Outcomes(3)
    outcomes.succeed(1, 2, Math.min)
    outcomes.succeed(2, 1, Math.min)
    outcomes.placeUnneeded()
    expect([...outcomes.tiers]).toEqual([1, 2, 1])
    expect(outcomes.run).toBe(3)
    const failed = new Outcomes(2)
    failed.fail(1, 'ERR_KV_QUEUE_FULL')
    failed.placeUnneeded()
    const result = failed.result(0, null)
    expect([result.code(0), result.code(1)]).toEqual(['ERR_KV_PARENT_LOST', 'ERR_KV_QUEUE_FULL'])
  })

  test('count what is in the tier that was asked for, or below it', () => {
    const outcomes = new Outcomes(3)
    for (const [i, tier] of [2, 1, 2].entries()) outcomes.succeed(i, tier, Math.min)
    expect(outcomes.result(12, null)).toMatchObject({ arrived: 3, message: '' })
    const disk = outcomes.result(12, null, 2)
    expect(disk.arrived).toBe(2)
    expect(disk.message).not.toBe('')
    outcomes.failFrom(1, 'ERR_KV_PARENT_LOST', 'behind')
    expect(outcomes.result(4, null)).toMatchObject({ arrived: 1, message: 'behind' })
  })

  test('keep the first code of a block, and combine the tiers of several layer groups', () => {
    const outcomes = new Outcomes(2)
    outcomes.fail(0, 'ERR_KV_CHECKSUM', 'first')
    outcomes.fail(0, 'ERR_KV_IO', 'second')
    outcomes.succeed(1, 2, Math.min)
    outcomes.succeed(1, 1, Math.min)
    expect(outcomes.run).toBe(0)
    const result = outcomes.result(0, null)
    expect(result.code(0)).toBe('ERR_KV_CHECKSUM')
    expect(result.message).toBe('first')
    expect(result.tier(1)).toBe('host')
  })
})
