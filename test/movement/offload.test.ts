import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { defineLayout } from '../../lib/identity/model-layout.ts'
import type { DeviceSlots } from '../../lib/movement/device-slots.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { countIo, isSettled, testing, turn, untilHeld, withFaults, withHeldIo } from '../support/io.ts'
import { diskStrideOf, strideOf, WINDOWED } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { compute, emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

/** Slots of owned memory with the first `blocks` of a sequence computed in them. */
async function computed(manager: BlockManager, sequence: Sequence, blocks: number) {
  const reserved = manager.device.reserve(blocks)
  await compute(manager, sequence, reserved, 0)
  return reserved
}

describe('an offload', () => {
  test('names host memory or disk for every block, as far as it was asked to go', async () => {
    await withManager({}, async (manager) => {
      const host = await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      expect(host).toMatchObject({
        blockCount: 4,
        tokens: 16,
        arrived: 4,
        bytes: 4 * TEST_STRIDE,
        message: '',
        pin: null,
      })
      expect(tiersOf(host)).toEqual(Array(4).fill('host'))
      const disk = await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }), { until: 'disk' })
      expect(tiersOf(disk)).toEqual(Array(4).fill('disk'))
      expect(manager.stats().counters).toMatchObject({
        offloadedToHost: 8,
        offloadedToDisk: 4,
        offloadedBytes: 8 * TEST_STRIDE,
        diskWrites: 4,
        diskWriteBytes: 4 * TEST_STRIDE,
      })
      expectQuiet(manager)
    })
  })

  test('until disk is refused without a disk tier', async () => {
    const manager = await BlockManager.open(testOptions(null))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await expect(store(manager, sequence, { until: 'disk' })).rejects.toMatchObject({ code: 'ERR_KV_UNSUPPORTED' })
    expect(sequence.match().tokens).toBe(0)
    expectQuiet(manager)
    await manager.close()
  })

  test('counts what reached the tier that was asked for, and says why the rest did not', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const failed = await withFaults({ seed: 1, writeError: 1 }, () => store(manager, sequence, { until: 'disk' }))
      expect(failed).toMatchObject({ arrived: 0, tokens: 16 })
      expect(tiersOf(failed)).toEqual(Array(4).fill('host'))
      expect(failed.message).not.toBe('')
      expect(await store(manager, sequence, { until: 'host' })).toMatchObject({ arrived: 4, message: '' })
      expect(await store(manager, sequence, { until: 'disk' })).toMatchObject({ arrived: 4, message: '' })
      expectQuiet(manager)
    })
  })

  test('counts every block that it brought to disk, in parts too, and none twice', async () => {
    // 16 MiB are a part: two blocks.
    const layout = defineLayout({
      tokensPerBlock: 4,
      groups: [{ name: 'full', kind: 'full', layers: 1, bytesPerToken: 1 << 20 }],
    })
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(
        testOptions(null, {
          layout,
          device: { kind: 'host', slots: 5 },
          host: { capacityBytes: 5 * strideOf(layout) },
          disk: { directory, capacityBytes: 5 * diskStrideOf(layout) },
        }),
      )
      const sequence = manager.sequence(tokens(1, 20), { tenant: 'a' })
      await store(manager, sequence, { until: 'disk', blocks: 1 })
      expect((await store(manager, sequence, { until: 'disk' })).arrived).toBe(5)
      expect(manager.stats().counters).toMatchObject({ offloadedToDisk: 5, diskWrites: 5 })
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('leaves what is held already where it is', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence, { until: 'disk' })
      const io = await countIo(async () => {
        const again = await store(manager, sequence, { until: 'disk' })
        expect(again).toMatchObject({ arrived: 4, bytes: 0 })
        expect(tiersOf(again)).toEqual(Array(4).fill('disk'))
      })
      expect(io).toBe(0)
      expect(manager.stats().counters).toMatchObject({ offloadedToHost: 4, offloadedAlreadyHeld: 4, diskWrites: 4 })
      expectQuiet(manager)
    })
  })

  test('of a sequence that grows stores each new block once', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32).slice(0, 9), { tenant: 'a' })
      await store(manager, sequence)
      for (const end of [13, 14, 24, 32]) {
        const firstBlock = sequence.blockCount
        sequence.append(tokens(1, 32).slice(sequence.tokenCount, end))
        if (sequence.blockCount === firstBlock) continue
        const result = await store(manager, sequence, { firstBlock })
        expect(result.tokens).toBe(sequence.blockCount * 4)
      }
      expect(manager.stats().counters).toMatchObject({ offloadedToHost: 8, offloadedAlreadyHeld: 0 })
      emptyDevice(manager)
      expect(await load(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))).toMatchObject({
        tokens: 32,
        wrong: 0,
      })
      expectQuiet(manager)
    })
  })

  test('behind a block that is in no tier makes no room', async () => {
    const manager = await BlockManager.open(testOptions(null))
    const other = manager.sequence(tokens(1, 64), { tenant: 'a' })
    await store(manager, other)
    emptyDevice(manager)
    const sequence = manager.sequence(tokens(2, 64), { tenant: 'a' })
    expect(codesOf(await store(manager, sequence, { firstBlock: 1 }))).toEqual(Array(15).fill('ERR_KV_PARENT_LOST'))
    const reservation = await manager.host.reserve(sequence, { firstBlock: 1 })
    expect(codesOf(await reservation.publish())).toEqual(Array(15).fill('ERR_KV_PARENT_LOST'))
    expect(other.match().blocks).toBe(16)
    expect(manager.stats().counters.evictedFromHost).toBe(0)
    expectQuiet(manager)
    await manager.close()
  })

  test('behind a block that is in no tier stores nothing', async () => {
    await withManager({}, async (manager) => {
      const result = await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }), { firstBlock: 2 })
      expect(codesOf(result)).toEqual(['ERR_KV_PARENT_LOST', 'ERR_KV_PARENT_LOST'])
      expect(tiersOf(result)).toEqual(['none', 'none'])
      expect(result).toMatchObject({ tokens: 0, arrived: 0, bytes: 0 })
      expect(manager.stats().tiers.host.held).toBe(0)
      expectQuiet(manager)
    })
  })

  test('makes the reservation it came from the device copies, which later requests hit', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      expect(sequence.match().byTier.device).toBe(16)
      const found = await load(manager, sequence)
      expect(found).toMatchObject({ tokens: 16, wrong: 0 })
      expect(tiersOf(found.result)).toEqual(Array(4).fill('device'))
      expect(manager.stats().counters).toMatchObject({ onboardedFromDevice: 4, onboardedBytes: 0 })
      expectQuiet(manager)
    })
  })

  test('of fewer blocks than the reservation has leaves the others to the caller', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reserved = await computed(manager, sequence, 4)
      const transfer = sequence.offload({ from: reserved, blockCount: 3, after: fence.quiet() })
      expect(await transfer.done).toMatchObject({ blockCount: 3, tokens: 12 })
      await transfer.settled
      expect(manager.stats().tiers.device).toMatchObject({ held: 3, pinned: 3, filling: 1 })
      reserved.release()
      expect(manager.stats().tiers.device).toMatchObject({ held: 3, pinned: 0, filling: 0 })
      expectQuiet(manager)
    })
  })

  test('of what a prompt leaves to compute lets the same prompt hit again, with windows too', async () => {
    const options = { layout: WINDOWED, host: { capacityBytes: 32 * strideOf(WINDOWED) }, leaveLastBlock: true }
    await withManager(options, async (manager) => {
      for (const count of [4, 8, 16, 24]) {
        const sequence = manager.sequence(tokens(count, count), { tenant: 'a' })
        await store(manager, sequence)
        expect(sequence.match()).toMatchObject({ tokens: count - 4, stoppedBy: 'last-block-left' })
        emptyDevice(manager)
        expect(await load(manager, sequence)).toMatchObject({ tokens: count - 4, wrong: 0 })
      }
      expectQuiet(manager)
    })
  })

  test('of layers that all have windows names no tier for a block that does not hold its window', async () => {
    const layout = defineLayout({
      tokensPerBlock: 4,
      groups: [{ name: 'sliding', kind: 'sliding', layers: 1, bytesPerToken: 512, windowTokens: 6 }],
    })
    const manager = await BlockManager.open(
      testOptions(null, { layout, host: { capacityBytes: 3 * strideOf(layout) } }),
    )
    const sequence = manager.sequence(tokens(1, 24), { tenant: 'a' })
    expect(tiersOf(await store(manager, sequence))).toEqual(Array(6).fill('host'))
    expect(sequence.match().tokens).toBe(24)
    const reading = await manager.host.load(sequence)
    const full = await store(manager, manager.sequence(tokens(2, 24), { tenant: 'a' }))
    expect(full).toMatchObject({ tokens: 0 })
    expect(codesOf(full)).toContain('ERR_KV_OUT_OF_BLOCKS')
    expect(tiersOf(full)).not.toContain('disk')
    reading.release()
    expectQuiet(manager)
    await manager.close()
  })

  test('revives a block that had expired', async () => {
    await withManager({}, async (manager) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a', ttlMs: 1_000 }))
      clock.mockReturnValue(start + 60_000)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect(sequence.match().tokens).toBe(0)
      expect(tiersOf(await store(manager, sequence))).toEqual(Array(4).fill('host'))
      expect(sequence.match().tokens).toBe(16)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(manager)
    })
  })
})

describe('a block that is stored again', () => {
  const start = 1_800_000_000_000
  const prompt = (manager: BlockManager, options: object = {}) =>
    manager.sequence(tokens(1, 16), { tenant: 'a', ...options })

  const again: readonly (readonly [string, (manager: BlockManager, sequence: Sequence) => Promise<unknown>])[] = [
    ['an offload', (manager, sequence) => store(manager, sequence)],
    ['a publish', async (manager, sequence) => (await manager.host.reserve(sequence)).publish()],
  ]

  test.each(again)('by %s lives as long as the longer of both asks', async (_, storeAgain) => {
    await withManager({}, async (manager) => {
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      await store(manager, prompt(manager, { ttlMs: 10_000 }))
      clock.mockReturnValue(start + 5_000)
      await storeAgain(manager, prompt(manager, { ttlMs: 10_000 }))
      await storeAgain(manager, prompt(manager, { ttlMs: 1_000 }))
      clock.mockReturnValue(start + 14_000)
      expect(prompt(manager).match().tokens).toBe(16)
      await storeAgain(manager, prompt(manager))
      clock.mockReturnValue(start + 1_000_000)
      expect(prompt(manager).match().tokens).toBe(16)
      expectQuiet(manager)
    })
  })

  test.each(again)('by %s has the larger priority of both', async (_, storeAgain) => {
    const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 8 * TEST_STRIDE } }))
    await store(manager, prompt(manager, { priority: 0 }))
    await storeAgain(manager, prompt(manager, { priority: 100 }))
    for (const seed of [2, 3]) {
      await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a', priority: 1 }))
      emptyDevice(manager)
    }
    expect(prompt(manager).match().tokens).toBe(16)
    expectQuiet(manager)
    await manager.close()
  })

  test('keeps on disk what held when it was written: after a restart it ends when that says', async () => {
    await withDirectory(async (directory) => {
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      const manager = await BlockManager.open(testOptions(directory))
      await store(manager, prompt(manager, { ttlMs: 10_000 }), { until: 'disk' })
      await store(manager, prompt(manager), { until: 'disk' })
      clock.mockReturnValue(start + 11_000)
      expect(prompt(manager).match().tokens).toBe(16)
      await manager.close()
      clock.mockReturnValue(start + 9_000)
      const next = await BlockManager.open(testOptions(directory))
      expect(prompt(next).match().tokens).toBe(16)
      clock.mockReturnValue(start + 11_000)
      expect(prompt(next).match().tokens).toBe(0)
      await next.close()
    })
  })
})

describe('offloads beside each other', () => {
  test('of the same prefix store it once', async () => {
    await withManager({}, async (manager) => {
      const prompts = [tokens(1, 16), tokens(1, 32), tokens(1, 24), tokens(1, 32)]
      const sequences = prompts.map((prompt) => manager.sequence(prompt, { tenant: 'a' }))
      const slots: DeviceSlots[] = []
      for (const sequence of sequences) slots.push(await computed(manager, sequence, sequence.blockCount))
      const transfers = sequences.map((sequence, i) =>
        sequence.offload({ from: slots[i]!, after: fence.quiet(), until: 'disk' }),
      )
      for (const [i, transfer] of transfers.entries()) {
        const result = await transfer.done
        expect(tiersOf(result)).toEqual(Array(sequences[i]?.blockCount).fill('disk'))
        await transfer.settled
      }
      expect(manager.stats().counters).toMatchObject({ offloadedToHost: 8, diskWrites: 8 })
      expect(manager.stats().tiers).toMatchObject({ host: { held: 8 }, disk: { held: 8 } })
      for (const each of slots) each.release()
      emptyDevice(manager)
      for (const sequence of sequences) expect((await load(manager, sequence)).wrong).toBe(0)
      expectQuiet(manager)
    })
  })

  test.each([0, 1, 2, 3])(
    'an offload that was aborted %d turns in can be tried again at once, before it has settled',
    async (turns) => {
      // Blocks so large that a copy is still running when it is aborted.
      const layout = defineLayout({
        tokensPerBlock: 4,
        groups: [{ name: 'full', kind: 'full', layers: 1, bytesPerToken: 3 << 20 }],
      })
      const options = {
        layout,
        host: { capacityBytes: 3 * strideOf(layout) },
        device: { kind: 'host', slots: 3 },
      } as const
      const manager = await BlockManager.open(testOptions(null, options))
      for (let seed = 1; seed <= 3; seed++) {
        const reserved = manager.device.reserve(3)
        const sequence = manager.sequence(tokens(seed, 12), { tenant: 'a' })
        const first = sequence.offload({ from: reserved, after: fence.quiet() })
        for (let i = 0; i < turns; i++) await turn()
        first.cancel()
        const ended = await first.done
        const again = sequence.offload({ from: reserved, after: fence.quiet() })
        expect(codesOf(await again.done)).toEqual(Array(3).fill('OK'))
        await Promise.all([first.settled, again.settled])
        expect(ended.blockCount).toBe(3)
        reserved.release()
      }
      expectQuiet(manager)
      await manager.close()
    },
  )

  test('a write to disk that outlasts its transfer is not written twice', async () => {
    await withManager({ engine: { threads: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reserved = await computed(manager, sequence, 4)
      await withHeldIo(async () => {
        const first = sequence.offload({ from: reserved, after: fence.quiet(), until: 'disk' })
        await untilHeld()
        first.cancel()
        expect(tiersOf(await first.done)).toEqual(Array(4).fill('host'))
        expect(await isSettled(first.settled)).toBe(false)
        const second = sequence.offload({ from: reserved, after: fence.quiet(), until: 'disk' })
        expect(await isSettled(second.done)).toBe(false)
        testing.releaseIo()
        expect(tiersOf(await second.done)).toEqual(Array(4).fill('disk'))
        await Promise.all([first.settled, second.settled])
      })
      expect(manager.stats().counters.diskWrites).toBe(4)
      reserved.release()
      expectQuiet(manager)
    })
  })
})

describe('what cannot be stored', () => {
  test('is out of blocks where host memory is full of pinned blocks and there is no disk', async () => {
    const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 6 * TEST_STRIDE } }))
    const first = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, first)
    const reading = await manager.host.load(first)
    const result = await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }))
    expect(codesOf(result)).toEqual(['OK', 'OK', 'ERR_KV_OUT_OF_BLOCKS', 'ERR_KV_OUT_OF_BLOCKS'])
    expect(result).toMatchObject({ tokens: 8, arrived: 2 })
    expect(result.message).not.toBe('')
    reading.release()
    const later = await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }))
    expect(later.arrived).toBe(4)
    expectQuiet(manager)
    await manager.close()
  })

  test('a prompt longer than host memory is stored from its start as far as it fits', async () => {
    await withDirectory(async (directory) => {
      const options = testOptions(directory, { host: { capacityBytes: 4 * TEST_STRIDE } })
      const manager = await BlockManager.open(options)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const result = await store(manager, sequence, { until: 'disk' })
      expect(codesOf(result).slice(0, 4)).toEqual(Array(4).fill('OK'))
      expect(tiersOf(result).slice(0, 4)).toEqual(Array(4).fill('disk'))
      // What did not fit at first goes with another call: the blocks before it are on disk now.
      for (let stored = result.tokens / 4; stored < 8; ) {
        const next = await store(manager, sequence, { until: 'disk', firstBlock: stored })
        expect(next.tokens / 4).toBeGreaterThan(stored)
        stored = next.tokens / 4
      }
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expectQuiet(manager)
      await manager.close()
    })
  })
})
