import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { DeviceSlots } from '../../lib/movement/device-slots.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { OffloadOptions, Sequence } from '../../lib/movement/sequence.ts'
import { NO_SLOT } from '../../lib/native/binding.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { strideOf, WINDOWED } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, fillSlots, hashesOf, load, store } from '../support/slots.ts'

describe('reserved device slots', () => {
  test('are taken from nobody, and free again after the release', async () => {
    await withManager({}, async (manager) => {
      const first = manager.device.reserve(20)
      const second = manager.device.reserve(12)
      expect(new Set([...first.slots(), ...second.slots()]).size).toBe(32)
      expect(manager.stats().tiers.device).toMatchObject({ filling: 32, free: 0, held: 0 })
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(1))
      second.release()
      second.release()
      expect(manager.stats().tiers.device).toMatchObject({ filling: 20, free: 12 })
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(13))
      manager.device.reserve(12).release()
      first.release()
      expectQuiet(manager)
    })
  })

  test('are named by layer group, and no more after the release', async () => {
    await withManager({ layout: WINDOWED, host: { capacityBytes: 8 * strideOf(WINDOWED) } }, async (manager) => {
      const slots = manager.device.reserve(3)
      expect(slots.slots('full')).toHaveLength(3)
      expect(slots.slots('sliding')).toHaveLength(3)
      errorOf('ERR_KV_INVALID_VALUE', () => slots.slots())
      errorOf('ERR_KV_INVALID_VALUE', () => slots.slots('other'))
      // What a caller does to the array is its own.
      const named = slots.slots('full')
      const before = [...named]
      named.fill(NO_SLOT)
      expect([...slots.slots('full')]).toEqual(before)
      slots.release()
      errorOf('ERR_KV_RELEASED', () => slots.slots('full'))
      errorOf('ERR_KV_RELEASED', () =>
        manager.sequence(tokens(1, 12), { tenant: 'a' }).offload({ from: slots, after: fence.quiet() }),
      )
      expectQuiet(manager)
    })
  })

  test('are given back at the end of a `using` block', async () => {
    await withManager({}, async (manager) => {
      {
        using slots = manager.device.reserve(4)
        expect(slots.blockCount).toBe(4)
      }
      expectQuiet(manager)
    })
  })

  test.each([0, -1, 0.5, Number.NaN, 2 ** 31, '4'])('cannot be %s in number', async (count) => {
    await withManager({}, async (manager) => {
      const code = typeof count === 'string' ? 'ERR_KV_INVALID_TYPE' : 'ERR_KV_INVALID_VALUE'
      errorOf(code, () => manager.device.reserve(count as number))
      expectQuiet(manager)
    })
  })

  test('evict device blocks that are only cached there, in the order of the policy', async () => {
    await withManager({}, async (manager) => {
      for (let seed = 1; seed <= 4; seed++) await store(manager, manager.sequence(tokens(seed, 32), { tenant: 'a' }))
      expect(manager.stats().tiers.device).toMatchObject({ held: 32, free: 0 })
      manager.device.reserve(8).release()
      expect(manager.stats().counters.evictedFromDevice).toBeGreaterThanOrEqual(8)
      const device = (seed: number) => manager.sequence(tokens(seed, 32), { tenant: 'a' }).match().byTier.device
      expect(device(4)).toBe(32)
      expect(device(1)).toBe(0)
      expectQuiet(manager)
    })
  })

  test('can be had although blocks elsewhere need what is cached there: those are lost', async () => {
    const options = testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE }, device: { kind: 'host', slots: 8 } })
    const manager = await BlockManager.open(options)
    const sequence = manager.sequence(tokens(1, 24), { tenant: 'a' })
    await store(manager, sequence, { blocks: 4 })
    // The device has the only copies of the first blocks when the next two are stored behind them.
    const pushing = await manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
    pushing.release()
    expect((await store(manager, sequence, { firstBlock: 4 })).arrived).toBe(2)
    expect(sequence.match().byTier).toMatchObject({ device: 24, host: 0 })
    manager.device.reserve(4).release()
    manager.device.reserve(8).release()
    expect(sequence.match().tokens).toBe(0)
    expect(manager.stats().counters.lost).toBeGreaterThan(0)
    expectQuiet(manager)
    await manager.close()
  })

  test('cannot be had without device memory, nor where the engine accounts it', async () => {
    const { device: _, ...none } = testOptions(null)
    const manager = await BlockManager.open(none)
    errorOf('ERR_KV_UNSUPPORTED', () => manager.device.reserve(1))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    errorOf('ERR_KV_UNSUPPORTED', () => sequence.onboard({ after: fence.quiet() }))
    await manager.close()
    const regions = { full: [new Uint8Array(4 * TEST_STRIDE)] }
    const borrowed = await BlockManager.open(
      testOptions(null, { device: { kind: 'host', slots: 4, layout: 'contiguous', regions } }),
    )
    errorOf('ERR_KV_INVALID_VALUE', () => borrowed.device.reserve(1))
    await borrowed.close()
  })

  test('of another manager are not taken for this one’s', async () => {
    await withManager({}, async (one) => {
      await withManager({}, async (two) => {
        const slots = two.device.reserve(4)
        const sequence = one.sequence(tokens(1, 16), { tenant: 'a' })
        errorOf('ERR_KV_INVALID_VALUE', () => sequence.offload({ from: slots, after: fence.quiet() }))
        slots.release()
        expectQuiet(two)
      })
      expectQuiet(one)
    })
  })
})

describe('a reserved slot holds one block', () => {
  const after = fence.quiet()

  /** Offloads and waits for the end. */
  async function offload(sequence: Sequence, options: Omit<OffloadOptions, 'after'>) {
    const transfer = sequence.offload({ after, ...options })
    const result = await transfer.done
    await transfer.settled
    return result
  }

  test('so another block in it is refused, and what may be written over is given to nobody', async () => {
    await withManager({}, async (manager) => {
      const lost: object[] = []
      manager.on('lost', (event) => lost.push(event))
      const a = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const b = manager.sequence(tokens(2, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      await compute(manager, a, slots, 0)
      expect((await offload(a, { from: slots })).arrived).toBe(4)
      await compute(manager, b, slots, 0)
      const error = errorOf('ERR_KV_SLOT_REPEATED', () => b.offload({ from: slots, after }))
      expect(error.message).toContain('fromOffset')
      slots.release()
      for (const sequence of [a, b]) expect((await load(manager, sequence)).wrong).toBe(0)
      expect(lost).toMatchObject([{ tier: 'device', blocks: 4, reason: 'ERR_KV_SLOT_REPEATED' }])
      expect((await store(manager, a)).arrived).toBe(4)
      expect(await load(manager, a)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('so a part of a reservation is named by its position', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      await offload(sequence, { from: slots, blockCount: 4 })
      const second = await offload(sequence, { from: slots, firstBlock: 4, fromOffset: 4 })
      expect(second).toMatchObject({ blockCount: 4, arrived: 4, tokens: 32 })
      slots.release()
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('so a part that is named without its position is refused, and no wrong byte is stored', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      await offload(sequence, { from: slots, blockCount: 4 })
      errorOf('ERR_KV_SLOT_REPEATED', () => sequence.offload({ from: slots, firstBlock: 4, blockCount: 4, after }))
      slots.release()
      expect((await load(manager, sequence)).wrong).toBe(0)
      expectQuiet(manager)
    })
  })

  test('so two prompts can share a reservation, each in its part', async () => {
    await withManager({}, async (manager) => {
      const prompts = [1, 2].map((seed) => manager.sequence(tokens(seed, 16), { tenant: 'a' }))
      const slots = manager.device.reserve(8)
      for (const [i, sequence] of prompts.entries()) {
        await fillSlots(manager.device.storage(), slots.slots().slice(i * 4, i * 4 + 4), hashesOf(sequence, 0, 4))
        const result = await offload(sequence, { from: slots, fromOffset: i * 4, blockCount: 4 })
        expect(result.arrived).toBe(4)
      }
      slots.release()
      for (const sequence of prompts) expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('also while the first offload of it is still on its way', async () => {
    await withManager({}, async (manager) => {
      const a = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const b = manager.sequence(tokens(2, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      await compute(manager, a, slots, 0)
      const produced = deferred()
      const first = a.offload({
        from: slots,
        after: fence.promise(produced.promise),
      })
      errorOf('ERR_KV_SLOT_REPEATED', () => b.offload({ from: slots, after }))
      produced.resolve()
      expect((await first.done).arrived).toBe(4)
      await first.settled
      slots.release()
      // The slots were named as other blocks': they are no device copies of these.
      expect(a.match().byTier).toEqual({ device: 0, host: 16, disk: 0 })
      expect(await load(manager, a)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('which may be offloaded again and again, also by another sequence of the same tokens', async () => {
    await withManager({}, async (manager) => {
      const slots = manager.device.reserve(4)
      const first = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await compute(manager, first, slots, 0)
      for (const sequence of [first, first, manager.sequence(tokens(1, 19), { tenant: 'a' })]) {
        expect((await offload(sequence, { from: slots, blockCount: 4 })).arrived).toBe(4)
      }
      errorOf('ERR_KV_SLOT_REPEATED', () =>
        manager.sequence(tokens(1, 16), { tenant: 'b' }).offload({ from: slots, after }),
      )
      slots.release()
      expectQuiet(manager)
    })
  })

  test('and one that was onboarded holds the block that it was onboarded with', async () => {
    const options = { layout: WINDOWED, host: { capacityBytes: 32 * strideOf(WINDOWED) } }
    await withManager(options, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      const { pin } = await sequence.onboard({ after }).done
      expect(pin).toBeInstanceOf(DeviceSlots)
      const from = pin as DeviceSlots
      // Outside its window a block has no slot: it has nothing to be adopted.
      expect((await offload(sequence, { from })).arrived).toBe(4)
      errorOf('ERR_KV_SLOT_REPEATED', () => manager.sequence(tokens(2, 16), { tenant: 'a' }).offload({ from, after }))
      from.release()
      expect((await load(manager, sequence)).wrong).toBe(0)
      expectQuiet(manager)
    })
  })

  test.each([
    [{ fromOffset: -1 }, 'ERR_KV_INVALID_VALUE'],
    [{ fromOffset: 5 }, 'ERR_KV_INVALID_VALUE'],
    [{ fromOffset: '1' }, 'ERR_KV_INVALID_TYPE'],
    [{ fromOffset: 4 }, 'ERR_KV_NO_WHOLE_BLOCK'],
    [{ fromOffset: 2, blockCount: 3 }, 'ERR_KV_INVALID_VALUE'],
  ] as const)('%j is refused with %s', async (options, code) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      errorOf(code, () => sequence.offload({ from: slots, after, ...options } as never))
      slots.release()
      expectQuiet(manager)
    })
  })
})

describe('a reservation that cannot be had', () => {
  test('evicts nothing', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 64), { tenant: 'a' })
      await store(manager, sequence)
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(33))
      expect(manager.stats().tiers.device.held).toBe(16)
      const held = await sequence.onboard({ after: fence.quiet(), maxBlocks: 1 }).done
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(32))
      expect(manager.stats()).toMatchObject({ tiers: { device: { held: 16 } }, counters: { evictedFromDevice: 0 } })
      held.pin?.release()
      expectQuiet(manager)
    })
  })

  test('in one layer group takes nothing from the others', async () => {
    const options = { layout: WINDOWED, host: { capacityBytes: 32 * strideOf(WINDOWED) } }
    await withManager(options, async (manager) => {
      const sequence = manager.sequence(tokens(1, 64), { tenant: 'a' })
      await store(manager, sequence)
      const { pin } = await sequence.onboard({ after: fence.quiet() }).done
      // 16 blocks of the first group are pinned and 2 of the second.
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(30))
      expect(manager.stats().counters.evictedFromDevice).toBe(0)
      pin?.release()
      expectQuiet(manager)
    })
  })
})

describe('a release while a transfer still uses the slots', () => {
  test('gives them to nobody before the transfer has settled', async () => {
    await withManager({ engine: { threads: THREADS }, device: { kind: 'host', slots: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const slots = manager.device.reserve(8)
      await compute(manager, sequence, slots, 0)
      const produced = deferred()
      const after = fence.promise(produced.promise)
      const transfer = sequence.offload({ from: slots, after })
      slots.release()
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(1))
      produced.resolve()
      expect(codesOf(await transfer.done)).toEqual(Array(8).fill('OK'))
      await transfer.settled
      manager.device.reserve(8).release()
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('of an onboard’s pin lets its blocks be evicted, and of no others', async () => {
    await withManager({ device: { kind: 'host', slots: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, sequence)
      const first = await sequence.onboard({ after: fence.quiet() }).done
      const second = await sequence.onboard({ after: fence.quiet(), maxBlocks: 4 }).done
      first.pin?.release()
      first.pin?.release()
      expect(manager.device.reserve(4).release()).toBeUndefined()
      errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(5))
      expect(await checkPin(manager, sequence, second.pin)).toEqual({ checked: 4, wrong: 0 })
      second.pin?.release()
      manager.device.reserve(8).release()
      expectQuiet(manager)
    })
  })

  test('and slots whose load ended early come back when the disk has answered', async () => {
    await withManager({ engine: { threads: THREADS }, host: { capacityBytes: 8 * TEST_STRIDE } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, sequence, { until: 'disk' })
      await store(manager, manager.sequence(tokens(2, 32), { tenant: 'a' }))
      emptyDevice(manager)
      await withHeldIo(async () => {
        const loading = sequence.onboard({ after: fence.quiet() })
        await untilHeld()
        loading.cancel()
        const result = await loading.done
        result.pin?.release()
        expect(manager.stats().tiers.device.free).toBe(24)
        errorOf('ERR_KV_OUT_OF_BLOCKS', () => manager.device.reserve(25))
        expect(await isSettled(loading.settled)).toBe(false)
        testing.releaseIo()
        await loading.settled
      })
      manager.device.reserve(32).release()
      expectQuiet(manager)
    })
  })
})
