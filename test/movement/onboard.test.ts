import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { LAYOUT_KINDS } from '../../lib/native/generated.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { countIo, isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { diskStrideOf, LAYOUTS, strideOf } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

const CASES = LAYOUTS.flatMap(([name, layout]) => LAYOUT_KINDS.map((kind) => [name, kind, layout] as const))

describe('the bytes that come back are those that were stored', () => {
  test.each(CASES)('with %s in owned device memory of kind %s, from every tier', async (_, kind, layout) => {
    await withDirectory(async (directory) => {
      const options = testOptions(null, {
        layout,
        device: { kind: 'host', slots: 12, layout: kind },
        host: { capacityBytes: 12 * strideOf(layout) },
        disk: { directory, capacityBytes: 32 * diskStrideOf(layout) },
      })
      const manager = await BlockManager.open(options)
      const sequence = manager.sequence(tokens(1, 23), { tenant: 'a' })
      const stored = await store(manager, sequence, { until: 'disk' })
      expect(codesOf(stored)).toEqual(Array(5).fill('OK'))
      expect(tiersOf(stored)).toEqual(Array(5).fill('disk'))
      const fromDevice = await load(manager, sequence)
      expect(fromDevice).toMatchObject({ tokens: 20, wrong: 0 })
      expect(tiersOf(fromDevice.result)).toEqual(Array(5).fill('device'))
      emptyDevice(manager)
      const fromHost = await load(manager, sequence)
      expect(fromHost).toMatchObject({ tokens: 20, wrong: 0, checked: fromDevice.checked })
      expect(tiersOf(fromHost.result)).toContain('host')
      expectQuiet(manager)
      await manager.close()

      const next = await BlockManager.open(options)
      const fromDisk = await load(next, next.sequence(tokens(1, 23), { tenant: 'a' }))
      expect(fromDisk).toMatchObject({ tokens: 20, wrong: 0, checked: fromDevice.checked })
      expect(tiersOf(fromDisk.result)).toContain('disk')
      expectQuiet(next)
      await next.close()
    })
  })

  test('through a buffered file as through O_DIRECT, and after one was the other', async () => {
    await withDirectory(async (directory) => {
      const open = (direct: boolean) =>
        BlockManager.open(testOptions(null, { disk: { directory, capacityBytes: 64 * (TEST_STRIDE + 128), direct } }))
      for (const [seed, direct] of [true, false, true].entries()) {
        const manager = await open(direct)
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
        for (let before = 0; before <= seed; before++) {
          emptyDevice(manager)
          expect(await load(manager, manager.sequence(tokens(before, 16), { tenant: 'a' }))).toMatchObject({
            tokens: 16,
            wrong: 0,
          })
        }
        await manager.close()
      }
    })
  })
})

describe('from disk', () => {
  test('blocks are read once, kept in host memory, and counted', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      expect(sequence.match().byTier).toEqual({ device: 0, host: 0, disk: 32 })
      expect(await countIo(() => load(manager, sequence))).toBeGreaterThan(0)
      expect(manager.stats().counters).toMatchObject({
        onboardedFromDisk: 8,
        diskReads: 8,
        diskReadBytes: 8 * TEST_STRIDE,
        onboardedBytes: 8 * TEST_STRIDE,
        diskWrites: 0,
      })
      emptyDevice(manager)
      expect(sequence.match().byTier).toEqual({ device: 0, host: 32, disk: 0 })
      expect(await countIo(() => load(manager, sequence))).toBe(0)
      expect(manager.stats().counters).toMatchObject({ onboardedFromHost: 8, diskReads: 8 })
      expectQuiet(manager)
    })
  })

  test('blocks come through staging buffers where host memory has no room', async () => {
    await withDisk([1, 2], 32, async (manager) => {
      const taken = await manager.host.reserve(manager.sequence(tokens(9, 64), { tenant: 'a' }))
      expect(manager.stats().tiers.host.free).toBe(0)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expect(manager.stats().tiers.host.held).toBe(0)
      taken.release()
      expectQuiet(manager)
    })
  })

  test('a prompt longer than the device is loaded as far as the slots reach, and the rest says why', async () => {
    await withDirectory(async (directory) => {
      const before = await BlockManager.open(testOptions(directory))
      await store(before, before.sequence(tokens(1, 40), { tenant: 'a' }), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(directory, { device: { kind: 'host', slots: 6 } }))
      const sequence = manager.sequence(tokens(1, 40), { tenant: 'a' })
      const { result, tokens: held, wrong } = await load(manager, sequence)
      expect({ held, wrong }).toEqual({ held: 24, wrong: 0 })
      expect(codesOf(result)).toEqual([...Array(6).fill('OK'), ...Array(4).fill('ERR_KV_OUT_OF_BLOCKS')])
      expect(tiersOf(result).slice(6)).toEqual(Array(4).fill('none'))
      expect(result.message).not.toBe('')
      expectQuiet(manager)
      await manager.close()
    })
  })
})

describe('two requests for the same blocks', () => {
  test('read them from disk once, and both get them', async () => {
    await withDisk([1], 32, async (manager) => {
      const once = await countIo(async () => {
        await load(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }), { maxBlocks: 1 })
      })
      expect(once).toBe(1)
      const sequences = Array.from({ length: 5 }, () => manager.sequence(tokens(1, 32), { tenant: 'a' }))
      await withHeldIo(async () => {
        const loads = sequences.map((sequence) => sequence.onboard({ after: fence.quiet() }))
        await untilHeld()
        for (const each of loads) expect(await isSettled(each.done)).toBe(false)
        testing.releaseIo()
        const results = await Promise.all(loads.map((each) => each.done))
        for (const [i, result] of results.entries()) {
          expect(result.tokens).toBe(32)
          expect(await checkPin(manager, sequences[i] ?? sequences[0]!, result.pin)).toEqual({ checked: 8, wrong: 0 })
          result.pin?.release()
        }
        await Promise.all(loads.map((each) => each.settled))
      })
      expect(manager.stats().counters).toMatchObject({ diskReads: 8, onboardedFromDisk: 8 })
      expectQuiet(manager)
    })
  })

  test('share the part that they have in common', async () => {
    await withDirectory(async (directory) => {
      const before = await BlockManager.open(testOptions(directory))
      const long = tokens(1, 32)
      const other = Uint32Array.from([...long.slice(0, 16), ...tokens(2, 16)])
      for (const each of [long, other]) await store(before, before.sequence(each, { tenant: 'a' }), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(directory))
      const found = await Promise.all(
        [long, other].map((each) => load(manager, manager.sequence(each, { tenant: 'a' }))),
      )
      for (const each of found) expect(each).toMatchObject({ tokens: 32, wrong: 0 })
      expect(manager.stats().counters.diskReads).toBe(12)
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('do not wait for each other without need: one that is aborted leaves the other its blocks', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        const controller = new AbortController()
        const first = sequence.onboard({ after: fence.quiet(), signal: controller.signal })
        await untilHeld()
        const second = sequence.onboard({ after: fence.quiet() })
        controller.abort()
        expect(codesOf(await first.done)).toEqual(Array(8).fill('ERR_KV_ABORTED'))
        testing.releaseIo()
        const result = await second.done
        expect(result).toMatchObject({ tokens: 32, arrived: 8 })
        expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 8, wrong: 0 })
        result.pin?.release()
        await Promise.all([first.settled, second.settled])
      })
      expectQuiet(manager)
    })
  })
})

describe('between match and onboard', () => {
  test('a block that was evicted is a shorter prefix, not an error', async () => {
    const options = testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE }, device: { kind: 'host', slots: 8 } })
    const manager = await BlockManager.open(options)
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, sequence)
    emptyDevice(manager)
    expect(sequence.match().tokens).toBe(16)
    await store(manager, manager.sequence(tokens(2, 8), { tenant: 'a' }))
    emptyDevice(manager)
    expect(await load(manager, sequence)).toMatchObject({ tokens: 8, wrong: 0 })
    await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }))
    emptyDevice(manager)
    expect(await load(manager, sequence)).toMatchObject({ tokens: 0, checked: 0 })
    expectQuiet(manager)
    await manager.close()
  })

  test('blocks that leave while the fence is waited for are a shorter prefix', async () => {
    const options = testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE }, device: { kind: 'host', slots: 8 } })
    const manager = await BlockManager.open(options)
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, sequence)
    emptyDevice(manager)
    const quiet = deferred()
    const lastUse = quiet.promise
    const transfer = sequence.onboard({ after: fence.promise(lastUse) })
    expect(await isSettled(transfer.done)).toBe(false)
    await store(manager, manager.sequence(tokens(2, 8), { tenant: 'a' }))
    emptyDevice(manager)
    quiet.resolve()
    const result = await transfer.done
    expect(result.tokens).toBe(8)
    expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 2, wrong: 0 })
    result.pin?.release()
    expectQuiet(manager)
    await manager.close()
  })
})

describe('blocks whose time is over', () => {
  const start = 1_800_000_000_000

  test.each([1, 2, 3, 4, 5, 6])(
    'between two looks at the clock (%d) are hits or misses, never an error',
    async (looks) => {
      await withManager({}, async (manager) => {
        const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
        const sequence = manager.sequence(tokens(1, 32), { tenant: 'a', ttlMs: 5_000 })
        await store(manager, sequence)
        emptyDevice(manager)
        let left = looks
        clock.mockImplementation(() => (left-- > 0 ? start + 4_999 : start + 5_000))
        const found = await load(manager, sequence)
        expect([0, 32]).toContain(found.tokens)
        expect(found.wrong).toBe(0)
        expectQuiet(manager)
      })
    },
  )

  test('while they are loaded are right for who asked before, and for nobody after', async () => {
    await withDirectory(async (directory) => {
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      const options = testOptions(directory, { engine: { threads: THREADS } })
      const before = await BlockManager.open(options)
      await store(before, before.sequence(tokens(1, 32), { tenant: 'a', ttlMs: 5_000 }), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(options)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      // Two blocks are on the device already, and six on disk.
      expect(await load(manager, sequence, { maxBlocks: 2 })).toMatchObject({ tokens: 8 })
      await withHeldIo(async () => {
        const transfer = sequence.onboard({ after: fence.quiet() })
        await untilHeld()
        clock.mockReturnValue(start + 60_000)
        // Looks for room, and drops what is over.
        manager.device.reserve(1).release()
        expect(sequence.match().tokens).toBe(0)
        testing.releaseIo()
        const result = await transfer.done
        expect(codesOf(result)).toEqual(Array(8).fill('OK'))
        expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 8, wrong: 0 })
        await transfer.settled
        expect(() => manager.device.reserve(25)).toThrow(expect.objectContaining({ code: 'ERR_KV_OUT_OF_BLOCKS' }))
        result.pin?.release()
        manager.device.reserve(32).release()
      })
      expect(sequence.match().tokens).toBe(0)
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('and whose slots a caller may have written over are no hits of a load that is under way', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(2)
      await compute(manager, sequence, slots, 0)
      const storing = sequence.offload({ from: slots, after: fence.quiet() })
      await storing.settled
      expect(sequence.match().byTier).toEqual({ device: 8, host: 0, disk: 24 })
      await withHeldIo(async () => {
        const transfer = sequence.onboard({ after: fence.quiet() })
        await untilHeld()
        const other = manager.sequence(tokens(2, 8), { tenant: 'a' })
        await compute(manager, other, slots, 0)
        expect(() => other.offload({ from: slots, after: fence.quiet() })).toThrow(
          expect.objectContaining({ code: 'ERR_KV_SLOT_REPEATED' }),
        )
        testing.releaseIo()
        const result = await transfer.done
        expect(codesOf(result)).toEqual(Array(8).fill('ERR_KV_PARENT_LOST'))
        expect(result).toMatchObject({ tokens: 0, arrived: 0 })
        result.pin?.release()
        await transfer.settled
      })
      slots.release()
      expectQuiet(manager)
    })
  })
})

describe('device slots that are scarce', () => {
  test('go to the start of the prompt, wherever its blocks come from', async () => {
    await withDirectory(async (directory) => {
      const before = await BlockManager.open(testOptions(directory))
      await store(before, before.sequence(tokens(1, 32), { tenant: 'a' }), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(directory, { device: { kind: 'host', slots: 10 } }))
      const sequence = manager.sequence(tokens(1, 64), { tenant: 'a' })
      await store(manager, sequence, { firstBlock: 8 })
      emptyDevice(manager)
      expect(sequence.match().byTier).toEqual({ device: 0, host: 32, disk: 32 })
      expect(await load(manager, sequence)).toMatchObject({ tokens: 40, wrong: 0 })
      expectQuiet(manager)
      await manager.close()
    })
  })
})

test('a host reservation for blocks that the device holds keeps no onboard of them waiting', async () => {
  const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 8 * TEST_STRIDE } }))
  const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
  await store(manager, sequence)
  const others = await manager.host.reserve(manager.sequence(tokens(2, 32), { tenant: 'a' }))
  others.release()
  expect(sequence.match().byTier).toEqual({ device: 32, host: 0, disk: 0 })
  const reservation = await manager.host.reserve(sequence)
  expect(reservation.needs(0)).toBe(true)
  expect(await load(manager, sequence, { deadlineMs: 5_000 })).toMatchObject({ tokens: 32, wrong: 0 })
  reservation.release()
  expectQuiet(manager)
  await manager.close()
})

describe('what is in use stays', () => {
  test('in host memory and on disk, while others are stored until both overflow', async () => {
    await withDisk([1], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const reading = await manager.host.load(sequence)
      const before = Array.from({ length: 8 }, (_, i) => Buffer.from(reading.window(i)))
      // 64 disk slots, 8 of them pinned: 20 prompts of 4 blocks want the other 56.
      for (let seed = 10; seed < 30; seed++) {
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      }
      expect(manager.stats().counters.evictedFromDisk).toBeGreaterThan(0)
      expect(manager.stats().counters.evictedFromHost).toBeGreaterThan(0)
      for (const [i, bytes] of before.entries()) expect(Buffer.from(reading.window(i)).equals(bytes)).toBe(true)
      reading.release()
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('in device memory, while others are onboarded and reserved until no slot is left', async () => {
    await withDisk([1, 2, 3, 4], 32, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const held = await sequence.onboard({ after: fence.quiet() }).done
      for (const seed of [2, 3, 4, 2, 3, 4]) {
        expect(await load(manager, manager.sequence(tokens(seed, 32), { tenant: 'a' }))).toMatchObject({
          tokens: 32,
          wrong: 0,
        })
      }
      manager.device.reserve(24).release()
      expect(() => manager.device.reserve(25)).toThrow(expect.objectContaining({ code: 'ERR_KV_OUT_OF_BLOCKS' }))
      expect(manager.stats().counters.evictedFromDevice).toBeGreaterThan(0)
      expect(await checkPin(manager, sequence, held.pin)).toEqual({ checked: 8, wrong: 0 })
      held.pin?.release()
      manager.device.reserve(32).release()
      expectQuiet(manager)
    })
  })
})

test('nothing held is a transfer of no blocks, whose pin holds nothing', async () => {
  await withManager({}, async (manager) => {
    const transfer = manager.sequence(tokens(1, 16), { tenant: 'a' }).onboard({ after: fence.quiet() })
    expect(await transfer.ready).toBeNull()
    const result = await transfer.done
    await transfer.settled
    expect(result).toMatchObject({ blockCount: 0, tokens: 0, arrived: 0, bytes: 0, message: '' })
    expect(result.pin?.blockCount).toBe(0)
    expect(result.pin?.slots()).toEqual(new Uint32Array())
    result.pin?.release()
    expectQuiet(manager)
  })
})
