import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { HostReservation } from '../../lib/movement/host-access.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { bytesOf } from '../support/borrowed.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

const threads = { engine: { threads: THREADS } }

/** Bytes of block `i` of a prompt, of its own for each seed. */
function blockOf(seed: number, i: number): Uint8Array {
  return bytesOf(seed * 1000 + i, TEST_STRIDE)
}

function fillAll(reservation: HostReservation, seed: number): void {
  for (let i = 0; i < reservation.blockCount; i++) {
    if (reservation.needs(i)) reservation.window(i).set(blockOf(seed, reservation.firstBlock + i))
  }
}

async function publish(manager: BlockManager, sequence: Sequence, seed: number, until: 'host' | 'disk' = 'host') {
  const reservation = await manager.host.reserve(sequence)
  fillAll(reservation, seed)
  return await reservation.publish({ until })
}

/** Loads what is held, checks every byte, and lets go; tokens that were right. */
async function readBack(manager: BlockManager, sequence: Sequence, seed: number): Promise<number> {
  const reading = await manager.host.load(sequence)
  const count = reading.result.tokens / 4
  for (let i = 0; i < count; i++) {
    expect(Buffer.from(reading.window(i)).equals(blockOf(seed, i)), `block ${i}`).toBe(true)
  }
  reading.release()
  return reading.result.tokens
}

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
        for (const i of [0, 1]) {
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

describe('a reading', () => {
  test('shows what came from disk, verified, and keeps it until it is released', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const reading = await manager.host.load(sequence, { maxBlocks: 6 })
      expect(reading.result).toMatchObject({ tokens: 24, arrived: 6, pin: null })
      expect(tiersOf(reading.result)).toEqual(Array(6).fill('disk'))
      expect(manager.stats().tiers.host.pinned).toBe(6)
      errorOf('ERR_KV_INVALID_VALUE', () => reading.window(6))
      errorOf('ERR_KV_INVALID_VALUE', () => reading.window(-1))
      const window = reading.window(2)
      expect(window.byteLength).toBe(TEST_STRIDE)
      reading.release()
      reading.release()
      expect(window.byteLength).toBe(0)
      errorOf('ERR_KV_RELEASED', () => reading.window(0))
      expectQuiet(manager)
    })
  })

  test('does not keep another one of the same blocks from reading them', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await publish(manager, sequence, 1)
      const [one, two] = await Promise.all([manager.host.load(sequence), manager.host.load(sequence)])
      const first = one.window(0)
      const second = two.window(0)
      expect(one.window(0).byteOffset).toBe(first.byteOffset)
      one.release()
      expect(Buffer.from(second).equals(blockOf(1, 0))).toBe(true)
      expect(Buffer.from(two.window(3)).equals(blockOf(1, 3))).toBe(true)
      two.release()
      expect([first.byteLength, second.byteLength]).toEqual([0, 0])
      expect(await readBack(manager, sequence, 1)).toBe(16)
      expectQuiet(manager)
    })
  })

  test('of nothing has nothing to show', async () => {
    await withManager({}, async (manager) => {
      using reading = await manager.host.load(manager.sequence(tokens(1, 16), { tenant: 'a' }))
      expect(reading.result).toMatchObject({ blockCount: 0, tokens: 0 })
      errorOf('ERR_KV_INVALID_VALUE', () => reading.window(0))
    })
  })

  test('of blocks that are only in device memory says so', async () => {
    const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE } }))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, sequence)
    await publish(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }), 2)
    expect(sequence.match().byTier).toEqual({ device: 16, host: 0, disk: 0 })
    const reading = await manager.host.load(sequence)
    expect(reading.result).toMatchObject({ blockCount: 4, tokens: 0, arrived: 0 })
    expect(reading.result.message).toContain('device')
    reading.release()
    expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
    expectQuiet(manager)
    await manager.close()
  })

  test('whose block expires while it is loaded shows no other block’s bytes', async () => {
    await withDirectory(async (directory) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      const before = await BlockManager.open(testOptions(directory))
      await store(before, before.sequence(tokens(1, 16), { tenant: 'a', ttlMs: 5_000 }), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(directory, threads))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await withHeldIo(async () => {
        const loading = manager.host.load(sequence)
        await untilHeld()
        clock.mockReturnValue(start + 60_000)
        // Room for another tenant's blocks sweeps what has expired.
        await publish(manager, manager.sequence(tokens(2, 48), { tenant: 'b' }), 2)
        testing.releaseIo()
        const reading = await loading
        expect(codesOf(reading.result)).toEqual(Array(4).fill('ERR_KV_PARENT_LOST'))
        for (let i = 0; i < 4; i++) errorOf('ERR_KV_INVALID_VALUE', () => reading.window(i))
        reading.release()
      })
      while (manager.stats().tiers.disk.pinned > 0) await isSettled(Promise.resolve())
      expect(sequence.match().tokens).toBe(0)
      expectQuiet(manager)
      await manager.close()
    })
  })

  test.each([
    [{ maxBlocks: -1 }, 'ERR_KV_INVALID_VALUE'],
    [{ deadlineMs: -1 }, 'ERR_KV_INVALID_VALUE'],
    [{ deadlineMs: '1' }, 'ERR_KV_INVALID_TYPE'],
    [{ signal: {} }, 'ERR_KV_INVALID_TYPE'],
    [null, 'ERR_KV_INVALID_TYPE'],
  ])('with options %j is refused with %s', async (options, code) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 19), { tenant: 'a' })
      await expect(manager.host.load(sequence, options as never)).rejects.toMatchObject({ code })
      expectQuiet(manager)
    })
  })
})

describe('closing the manager', () => {
  test('detaches every window, and ends reservations and readings', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await publish(manager, sequence, 1)
      const reading = await manager.host.load(sequence)
      const reservation = await manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
      const windows = [reading.window(0), reservation.window(0)]
      await manager.close()
      for (const window of windows) expect(window.byteLength).toBe(0)
      errorOf('ERR_KV_RELEASED', () => reading.window(0))
      errorOf('ERR_KV_RELEASED', () => reservation.window(0))
      await expect(reservation.publish()).rejects.toMatchObject({ code: 'ERR_KV_RELEASED' })
    })
  })

  test('does not wait for a reservation or a reading that was still on its way', async () => {
    await withDisk([1], 16, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reserving = manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
      const loading = manager.host.load(sequence)
      const closing = manager.close()
      await expect(reserving).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await expect(loading).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await closing
      manager.checkAccounting()
    })
  })

  test('ends a publish that is under way with an outcome for every block', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const reservation = await manager.host.reserve(manager.sequence(tokens(1, 16), { tenant: 'a' }))
      fillAll(reservation, 1)
      const publishing = reservation.publish({ until: 'disk' })
      await manager.close()
      for (const code of codesOf(await publishing))
        expect(['OK', 'ERR_KV_CLOSED', 'ERR_KV_PARENT_LOST']).toContain(code)
      manager.checkAccounting()
    })
  })
})

test('blocks that an engine published can be onboarded, and those it offloaded can be read', async () => {
  await withManager({}, async (manager) => {
    const one = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, one)
    const reading = await manager.host.load(one)
    const bytes = Array.from({ length: 4 }, (_, i) => Buffer.from(reading.window(i)))
    reading.release()
    // The same bytes under another identity are not the pattern of that identity: onboarding moves what was published.
    const two = manager.sequence(tokens(2, 16), { tenant: 'a' })
    const reservation = await manager.host.reserve(two)
    for (const [i, each] of bytes.entries()) reservation.window(i).set(each)
    await reservation.publish()
    expect(await load(manager, two)).toMatchObject({ tokens: 16, checked: 4, wrong: 4 })
    emptyDevice(manager)
    expect(await load(manager, one)).toMatchObject({ tokens: 16, checked: 4, wrong: 0 })
    expectQuiet(manager)
  })
})
