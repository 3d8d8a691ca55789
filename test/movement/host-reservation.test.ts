import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { bytesOf } from '../support/borrowed.ts'
import { errorOf } from '../support/expect-code.ts'
import { blockOf, fillAll, publish, readBack, threads } from '../support/host-slots.ts'
import { isSettled, testing, turn, untilHeld, withFaults, withHeldIo } from '../support/io.ts'
import { HYBRID, strideOf, WINDOWED } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, store } from '../support/slots.ts'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

describe('a reservation', () => {
  test('is filled, published, found, and read back byte by byte', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 18), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      expect(reservation).toMatchObject({ firstBlock: 0, blockCount: 4 })
      expect([0, 1, 2, 3].map((i) => reservation.needs(i))).toEqual([true, true, true, true])
      expect([-1, 4].map((i) => reservation.needs(i))).toEqual([false, false])
      expect(reservation.window(0)).toHaveLength(TEST_STRIDE)
      fillAll(reservation, 1)
      expect(sequence.match().tokens).toBe(0)
      const result = await reservation.publish()
      expect(result).toMatchObject({ blockCount: 4, tokens: 16, arrived: 4, bytes: 4 * TEST_STRIDE })
      expect(tiersOf(result)).toEqual(Array(4).fill('host'))
      expect(await readBack(manager, sequence, 1)).toBe(16)
      expectQuiet(manager)
    })
  })

  test('that is published until disk survives a restart', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const result = await publish(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }), 1, 'disk')
      expect(tiersOf(result)).toEqual(Array(4).fill('disk'))
      await manager.close({ flush: false })
      const next = await BlockManager.open(testOptions(directory))
      expect(await readBack(next, next.sequence(tokens(1, 16), { tenant: 'a' }), 1)).toBe(16)
      expect(next.stats().counters).toMatchObject({ diskReads: 4, checksumFailures: 0 })
      expectQuiet(next)
      await next.close()
    })
  })

  test('needs no bytes for blocks that are held, and continues behind them', async () => {
    await withManager({}, async (manager) => {
      await publish(manager, manager.sequence(tokens(1, 8), { tenant: 'a' }), 1)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const whole = await manager.host.reserve(sequence)
      expect([0, 1, 2, 3].map((i) => whole.needs(i))).toEqual([false, false, true, true])
      errorOf('ERR_KV_INVALID_VALUE', () => whole.window(0))
      whole.release()
      const behind = await manager.host.reserve(sequence, { firstBlock: 2, blockCount: 1 })
      fillAll(behind, 1)
      expect(await behind.publish()).toMatchObject({ blockCount: 1, tokens: 12 })
      expect(await readBack(manager, sequence, 1)).toBe(12)
      expectQuiet(manager)
    })
  })

  test('detaches its windows when it is published, and when it is released', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const released = await manager.host.reserve(sequence)
      const windows = [released.window(0), released.window(3)]
      expect(released.window(0).buffer).toBe(windows[0]?.buffer)
      released.release()
      const published = await manager.host.reserve(sequence)
      fillAll(published, 1)
      windows.push(published.window(1))
      const publishing = published.publish()
      // Before anything waits: nobody writes into a block whose checksum is being made.
      for (const window of windows) expect(window.byteLength).toBe(0)
      await publishing
      for (const each of [released, published]) {
        errorOf('ERR_KV_RELEASED', () => each.window(0))
        await expect(each.publish()).rejects.toMatchObject({ code: 'ERR_KV_RELEASED' })
        each.release()
        each.release()
      }
      expect(await readBack(manager, sequence, 1)).toBe(16)
      expectQuiet(manager)
    })
  })

  test('that is never published leaves nothing behind', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      {
        using reservation = await manager.host.reserve(sequence)
        fillAll(reservation, 1)
        expect(manager.stats().tiers.host.filling).toBe(4)
      }
      expect(sequence.match()).toMatchObject({ tokens: 0, stoppedBy: 'not-held' })
      expectQuiet(manager)
    })
  })

  test('of blocks that another one reserved needs none of them', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const [first, second] = await Promise.all([manager.host.reserve(sequence), manager.host.reserve(sequence)])
      expect([0, 1, 2, 3].map((i) => first.needs(i) !== second.needs(i))).toEqual([true, true, true, true])
      fillAll(first, 1)
      fillAll(second, 1)
      for (const each of [first, second]) expect((await each.publish()).bytes % TEST_STRIDE).toBe(0)
      expect(await readBack(manager, sequence, 1)).toBe(16)
      expect(manager.stats().counters.offloadedToHost).toBe(4)
      expectQuiet(manager)
    })
  })

  test('behind one that is given up is given up with it', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const first = await manager.host.reserve(sequence, { blockCount: 2 })
      const second = await manager.host.reserve(sequence, { firstBlock: 2 })
      fillAll(second, 1)
      first.release()
      const result = await second.publish()
      expect(result.arrived).toBe(0)
      for (const code of codesOf(result)) expect(code).not.toBe('OK')
      expect(sequence.match().tokens).toBe(0)
      expectQuiet(manager)
    })
  })

  test('is joined by an offload of the same blocks, which stores what the reservation does not', async () => {
    await withManager(threads, async (manager) => {
      for (const published of [true, false]) {
        const seed = published ? 1 : 2
        const sequence = manager.sequence(tokens(seed, 16), { tenant: 'a' })
        const reservation = await manager.host.reserve(sequence, { blockCount: 2 })
        const storing = store(manager, sequence)
        expect(await isSettled(storing)).toBe(false)
        fillAll(reservation, seed)
        if (published) await reservation.publish()
        else reservation.release()
        expect(codesOf(await storing)).toEqual(Array(4).fill('OK'))
        expect(sequence.match().tokens).toBe(16)
        const reading = await manager.host.load(sequence)
        if (published) expect(Buffer.from(reading.window(1)).equals(blockOf(1, 1))).toBe(true)
        reading.release()
      }
      expect(manager.stats().counters.offloadedToHost).toBe(8)
      expectQuiet(manager)
    })
  })

  test('is waited for by an offload of blocks behind it, which are misses when it is given up', async () => {
    await withManager(threads, async (manager) => {
      for (const published of [true, false]) {
        const sequence = manager.sequence(tokens(published ? 1 : 2, 16), { tenant: 'a' })
        const reservation = await manager.host.reserve(sequence, { blockCount: 2 })
        const storing = store(manager, sequence, { firstBlock: 2 })
        expect(await isSettled(storing)).toBe(false)
        if (published) await reservation.publish()
        else reservation.release()
        const result = await storing
        expect(codesOf(result)).toEqual(Array(2).fill(published ? 'OK' : 'ERR_KV_PARENT_LOST'))
        expect(result.tokens).toBe(published ? 16 : 0)
        expect(sequence.match().tokens).toBe(result.tokens)
      }
      expectQuiet(manager)
    })
  })

  test('does not keep an offload that joined it beyond its deadline', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence, { blockCount: 2 })
      const result = await store(manager, sequence, { deadlineMs: 1 })
      expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_DEADLINE'))
      fillAll(reservation, 1)
      await reservation.publish()
      expect(await readBack(manager, sequence, 1)).toBe(8)
      expectQuiet(manager)
    })
  })

  test('takes fewer slots where no more can be had, and names the blocks that got none', async () => {
    const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 3 * TEST_STRIDE } }))
    const sequence = manager.sequence(tokens(1, 20), { tenant: 'a' })
    const reservation = await manager.host.reserve(sequence)
    expect([0, 1, 2, 3, 4].map((i) => reservation.needs(i))).toEqual([true, true, true, false, false])
    const none = await manager.host.reserve(manager.sequence(tokens(2, 8), { tenant: 'a' }))
    expect([0, 1].map((i) => none.needs(i))).toEqual([false, false])
    expect(codesOf(await none.publish())).toEqual(Array(2).fill('ERR_KV_OUT_OF_BLOCKS'))
    fillAll(reservation, 1)
    const result = await reservation.publish()
    expect(codesOf(result)).toEqual(['OK', 'OK', 'OK', 'ERR_KV_OUT_OF_BLOCKS', 'ERR_KV_OUT_OF_BLOCKS'])
    expect(await readBack(manager, sequence, 1)).toBe(12)
    expectQuiet(manager)
    await manager.close()
  })

  test('holds a block of every layer group', async () => {
    await withManager({ layout: HYBRID, host: { capacityBytes: 8 * strideOf(HYBRID) } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      errorOf('ERR_KV_INVALID_VALUE', () => reservation.window(0))
      errorOf('ERR_KV_INVALID_VALUE', () => reservation.needs(0, 'other'))
      for (const [index, { name }] of HYBRID.groups.entries()) {
        // Of the window and of the state only the last is needed.
        expect(reservation.needs(0, name)).toBe(name === 'full')
        for (const i of name === 'full' ? [0, 1] : [1]) {
          const window = reservation.window(i, name)
          window.set(bytesOf(index * 10 + i, window.length))
        }
      }
      expect(await reservation.publish()).toMatchObject({ tokens: 8, arrived: 2 })
      const reading = await manager.host.load(sequence)
      for (const [index, { name }] of HYBRID.groups.entries()) {
        const window = reading.window(1, name)
        expect(window).toEqual(bytesOf(index * 10 + 1, window.length))
      }
      // The snapshot at the end is all that the recurrent group needs.
      errorOf('ERR_KV_INVALID_VALUE', () => reading.window(0, 'state'))
      reading.release()
      expectQuiet(manager)
    })
  })

  test('takes slots of a window only for what is needed at its end, and of a chat at each end', async () => {
    const options = { layout: WINDOWED, host: { capacityBytes: 16 * strideOf(WINDOWED) }, leaveLastBlock: true }
    await withManager(options, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      const needed = (group: string) => Array.from({ length: 8 }, (_, i) => reservation.needs(i, group))
      expect(needed('full')).toEqual(Array(8).fill(true))
      // 6 tokens before token 32, and before token 28: where the last block is left to compute.
      expect(needed('sliding')).toEqual([...Array(5).fill(false), true, true, true])
      expect(manager.stats().tiers.host.filling).toBe(8 + 3)
      expect(await reservation.publish()).toMatchObject({ arrived: 8, tokens: 32, message: '' })
      expect(sequence.match()).toMatchObject({ tokens: 28, stoppedBy: 'last-block-left' })
      expectQuiet(manager)
    })
  })

  test('stores what only device memory holds', async () => {
    const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE } }))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, sequence)
    await publish(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }), 2)
    expect(sequence.match().byTier).toEqual({ device: 16, host: 0, disk: 0 })
    const reservation = await manager.host.reserve(sequence)
    expect([0, 1, 2, 3].map((i) => reservation.needs(i))).toEqual([true, true, true, true])
    fillAll(reservation, 1)
    expect(tiersOf(await reservation.publish())).toEqual(Array(4).fill('host'))
    expect(await readBack(manager, sequence, 1)).toBe(16)
    expectQuiet(manager)
    await manager.close()
  })

  test('of a block whose time was over takes its place', async () => {
    await withManager({}, async (manager) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      await publish(manager, manager.sequence(tokens(1, 8), { tenant: 'a', ttlMs: 1_000 }), 1)
      clock.mockReturnValue(start + 2_000)
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      expect(sequence.match().tokens).toBe(0)
      await publish(manager, sequence, 2)
      expect(await readBack(manager, sequence, 2)).toBe(8)
      expectQuiet(manager)
    })
  })

  test.each([
    [{ firstBlock: -1 }, 'ERR_KV_INVALID_VALUE'],
    [{ blockCount: 0.5 }, 'ERR_KV_INVALID_VALUE'],
    [{ firstBlock: '0' }, 'ERR_KV_INVALID_TYPE'],
    [null, 'ERR_KV_INVALID_TYPE'],
    [{ blockCount: 0 }, 'ERR_KV_NO_WHOLE_BLOCK'],
    [{ blockCount: 5 }, 'ERR_KV_NO_WHOLE_BLOCK'],
    [{ firstBlock: 4 }, 'ERR_KV_NO_WHOLE_BLOCK'],
  ])('with options %j is refused with %s', async (options, code) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 19), { tenant: 'a' })
      await expect(manager.host.reserve(sequence, options as never)).rejects.toMatchObject({ code })
      expectQuiet(manager)
    })
  })
})

test('a publish that is asked for something unknown is refused, and can be asked for again', async () => {
  await withManager({}, async (manager) => {
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    const reservation = await manager.host.reserve(sequence)
    fillAll(reservation, 1)
    await expect(reservation.publish({ until: 'tape' as 'disk' })).rejects.toMatchObject({
      code: 'ERR_KV_INVALID_VALUE',
    })
    await expect(reservation.publish(null as never)).rejects.toMatchObject({ code: 'ERR_KV_INVALID_TYPE' })
    expect(await reservation.publish()).toMatchObject({ tokens: 16 })
    expectQuiet(manager)
  })
})

describe('a disk that does not answer', () => {
  const full = { ...threads, host: { capacityBytes: 8 * TEST_STRIDE } }
  const ends: readonly (readonly [
    string,
    string,
    () => { limits: object; end: (manager: BlockManager) => unknown },
  ])[] = [
    [
      'deadline',
      'ERR_KV_DEADLINE',
      () => {
        // It counts on a clock that stands still: only the disk is to be late.
        vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
        return { limits: { deadlineMs: 20 }, end: () => vi.advanceTimersByTime(20) }
      },
    ],
    [
      'signal',
      'ERR_KV_ABORTED',
      () => {
        const controller = new AbortController()
        return { limits: { signal: controller.signal, deadlineMs: 0 }, end: () => controller.abort() }
      },
    ],
  ]

  test.each(ends)('does not keep a reservation that must make room beyond its %s', async (_, code, make) => {
    await withManager(full, async (manager) => {
      const other = manager.sequence(tokens(2, 32), { tenant: 'a' })
      await store(manager, other)
      emptyDevice(manager)
      const { limits, end } = make()
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        const reserving = manager.host.reserve(sequence, limits)
        await untilHeld()
        end(manager)
        vi.useRealTimers()
        const reservation = await reserving
        expect([0, 7].map((i) => reservation.needs(i))).toEqual([false, false])
        expect(codesOf(await reservation.publish())).toEqual(Array(8).fill(code))
        testing.releaseIo()
      })
      while (manager.stats().tiers.host.pinned > 0) await turn()
      const again = await manager.host.reserve(sequence)
      expect([0, 7].map((i) => again.needs(i))).toEqual([true, true])
      again.release()
      expectQuiet(manager)
    })
  })

  test('does not keep a close waiting for a reservation', async () => {
    await withManager(full, async (manager) => {
      await store(manager, manager.sequence(tokens(2, 32), { tenant: 'a' }))
      await withHeldIo(async () => {
        const reserving = manager.host.reserve(manager.sequence(tokens(1, 32), { tenant: 'a' }), { deadlineMs: 0 })
        reserving.catch(() => undefined)
        await untilHeld()
        const closing = manager.close({ deadlineMs: 1, flush: false })
        await expect(reserving).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
        testing.releaseIo()
        await closing
      })
      manager.checkAccounting()
    })
  })

  test('does not keep a publish beyond its deadline: the blocks are in host memory', async () => {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      fillAll(reservation, 1)
      await withHeldIo(async () => {
        // The deadline counts on a clock that stands still until the blocks are sealed and the disk was asked.
        vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
        const publishing = reservation.publish({ until: 'disk', deadlineMs: 20 })
        await untilHeld()
        vi.advanceTimersByTime(20)
        vi.useRealTimers()
        const result = await publishing
        expect(result).toMatchObject({ tokens: 16, arrived: 0 })
        expect(tiersOf(result)).toEqual(Array(4).fill('host'))
        expect(result.message).toContain('ERR_KV_DEADLINE')
        testing.releaseIo()
      })
      while (manager.stats().tiers.disk.filling > 0) await turn()
      expect(await readBack(manager, sequence, 1)).toBe(16)
      expectQuiet(manager)
    })
  })
})

describe('a publish until disk', () => {
  test('is refused without a disk tier, and can be asked for again', async () => {
    const manager = await BlockManager.open(testOptions(null))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    const reservation = await manager.host.reserve(sequence)
    fillAll(reservation, 1)
    await expect(reservation.publish({ until: 'disk' })).rejects.toMatchObject({ code: 'ERR_KV_UNSUPPORTED' })
    expect(await reservation.publish()).toMatchObject({ arrived: 4 })
    expectQuiet(manager)
    await manager.close()
  })

  test('says what kept its blocks from the disk', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const result = await withFaults({ seed: 1, writeError: 1 }, () => publish(manager, sequence, 1, 'disk'))
      expect(result).toMatchObject({ arrived: 0, tokens: 16 })
      expect(tiersOf(result)).toEqual(Array(4).fill('host'))
      expect(result.message).not.toBe('')
      expectQuiet(manager)
    })
  })
})
