import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { withDisk } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { blockOf, publish, readBack, threads } from '../support/host-slots.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

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

  test('whose block expires while it is loaded shows its bytes to the end', async () => {
    await withDirectory(async (directory) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      const before = await BlockManager.open(testOptions(directory))
      await store(before, before.sequence(tokens(1, 16), { tenant: 'a', ttlMs: 5_000 }), { until: 'disk' })
      const first = await before.host.load(before.sequence(tokens(1, 16), { tenant: 'a' }))
      const stored = Array.from({ length: 4 }, (_, i) => Buffer.from(first.window(i)))
      first.release()
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
        // What was asked for in time is right; nobody else finds it.
        expect(codesOf(reading.result)).toEqual(Array(4).fill('OK'))
        const found = Array.from({ length: 4 }, (_, i) => Buffer.from(reading.window(i)))
        for (const [i, bytes] of found.entries())
          expect(bytes.equals(stored[i] ?? Buffer.of()), `block ${i}`).toBe(true)
        expect(sequence.match().tokens).toBe(0)
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
