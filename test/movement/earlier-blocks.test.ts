/** What comes with a host load before the windows that a prefix needs, for engines that keep a window in a ring of cells. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { slotBytesOfShape } from '../../lib/identity/model-layout.ts'
import { storageOf } from '../../lib/movement/context.ts'
import type { LoadOptions } from '../../lib/movement/host-access.ts'
import type { HostReading } from '../../lib/movement/host-reading.ts'
import { firstNeeded } from '../../lib/movement/match.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { DEVICE, HOST } from '../../lib/tiers/types.ts'
import { THREADS } from '../support/disk.ts'
import { findInSlab, flipBit, storeFile } from '../support/files.ts'
import { testing, untilHeld, withFaults, withHeldIo } from '../support/io.ts'
import { diskStrideOf, HYBRID, strideOf, WINDOWED } from '../support/layouts.ts'
import { testOptions, tokens, withDirectory } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { countWrong, emptyDevice, hashesOf, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

/** Blocks of the prompt of these tests; its last window needs the last two. */
const BLOCKS = 6
const all = (): number => 0
/** A deadline that a busy machine does not miss before the blocks were looked up. */
const LATE_MS = 300

function promptOf(manager: BlockManager): Sequence {
  return manager.sequence(tokens(1, 4 * BLOCKS), { tenant: 'a' })
}

/** Stores the prompt so that every block of every group is held: a store keeps the last window of what it stores. */
async function storeAll(manager: BlockManager, until: 'host' | 'disk'): Promise<void> {
  for (let firstBlock = 0; firstBlock < BLOCKS; firstBlock++) {
    await store(manager, promptOf(manager), { firstBlock, blocks: 1, until })
  }
  emptyDevice(manager)
}

function options(directory: string | null, layout = WINDOWED): ManagerOptions {
  return testOptions(null, {
    layout,
    host: { capacityBytes: 16 * strideOf(layout) },
    engine: { threads: THREADS },
    ...(directory === null ? {} : { disk: { directory, capacityBytes: 32 * diskStrideOf(layout) } }),
  })
}

/** A manager that holds every block in host memory. */
async function withAll(run: (manager: BlockManager) => Promise<void>, layout = WINDOWED): Promise<void> {
  const manager = await BlockManager.open(options(null, layout))
  try {
    await storeAll(manager, 'host')
    await run(manager)
    expectQuiet(manager)
  } finally {
    await manager.close()
  }
}

/** A manager that holds every block on disk and nowhere else; `between` may touch the files. */
async function withAllOnDisk(
  run: (manager: BlockManager) => Promise<void>,
  between: (directory: string) => Promise<void> = async () => undefined,
): Promise<void> {
  await withDirectory(async (directory) => {
    const before = await BlockManager.open(options(directory))
    await storeAll(before, 'disk')
    await before.close()
    await between(directory)
    const manager = await BlockManager.open(options(directory))
    try {
      await run(manager)
      while (manager.stats().tiers.disk.pinned > 0) await new Promise((resolve) => setImmediate(resolve))
      expectQuiet(manager)
    } finally {
      await manager.close({ flush: false })
    }
  })
}

/** The accounting of a group, and the entry of one of its blocks. */
function findBlock(manager: BlockManager, group: number, block: number) {
  const { blocks } = manager.internals.context.groups[group]!
  const { hashes } = promptOf(manager)
  hashes.hashBlocks()
  return { blocks, entry: blocks.find(hashes.words, block) }
}

function lose(manager: BlockManager, group: number, block: number): void {
  const { blocks, entry } = findBlock(manager, group, block)
  blocks.drop(entry)
}

/** Flips a bit of blocks on disk, each named by its group and number. */
async function damage(directory: string, damaged: readonly (readonly [number, number])[]): Promise<void> {
  const manager = await BlockManager.open(options(directory))
  const reading = await manager.host.load(promptOf(manager), { firstWanted: all })
  const found = damaged.map(([group, block]) => {
    const { shape, group: layers } = manager.internals.context.groups[group]!
    return { group, bytes: Uint8Array.from(reading.window(block, layers.name)), stride: slotBytesOfShape(shape) }
  })
  reading.release()
  await manager.close({ flush: false })
  for (const { group, bytes, stride } of found) {
    const slab = storeFile(directory, `group-${group}.slab`)
    flipBit(slab, findInSlab(slab, bytes, stride) + 100)
  }
}

/** Blocks of each group that a reading hands out, all of whose bytes are right, in a run that covers the window. */
async function positionsOf(manager: BlockManager, reading: HostReading): Promise<number[][]> {
  const { context } = manager.internals
  const sequence = promptOf(manager)
  const blocks = reading.result.tokens / 4
  return await reading.use(async (held) => {
    for (const { tiers, positions, slots } of held) {
      const hashes = Buffer.concat(positions.map((i) => hashesOf(sequence, i, 1)))
      expect(await countWrong(storageOf(tiers, HOST), slots, new Uint8Array(hashes)), tiers.group.name).toBe(0)
      const first = positions[0] ?? blocks
      expect(positions, tiers.group.name).toEqual(Array.from({ length: blocks - first }, (_, i) => first + i))
      expect(first, tiers.group.name).toBeLessThanOrEqual(firstNeeded(tiers, blocks, context.tokensPerBlock))
    }
    return held.map(({ positions }) => [...positions])
  })
}

/** Loads the prompt and lets go of it; what the reading handed out. */
async function loaded(manager: BlockManager, given: LoadOptions) {
  const reading = await manager.host.load(promptOf(manager), given)
  const positions = await positionsOf(manager, reading)
  const pinned = manager.stats().tiers.host.pinned
  reading.release()
  return { result: reading.result, positions, pinned }
}

const from = (first: number, end = BLOCKS): number[] => Array.from({ length: end - first }, (_, i) => first + i)

describe('of a window that lies in a ring', () => {
  test('nothing earlier comes where nothing earlier is asked for', async () => {
    await withAll(async (manager) => {
      const { positions, pinned } = await loaded(manager, {})
      expect(positions).toEqual([from(0), from(4)])
      expect(pinned).toBe(8)
    })
  })

  test('earlier blocks come where all are held, and are let go of with the others', async () => {
    await withAll(async (manager) => {
      const held = manager.stats().tiers.host.held
      const { result, positions, pinned } = await loaded(manager, { firstWanted: () => 1 })
      expect(result).toMatchObject({ tokens: 24, arrived: BLOCKS, message: '' })
      expect(positions).toEqual([from(0), from(1)])
      expect(pinned).toBe(11)
      expect(manager.stats().tiers.host).toMatchObject({ held, pinned: 0 })
    })
  })

  test.each([
    ['0', 0, 0],
    ['below 0', -3, 0],
    ['minus infinity', Number.NEGATIVE_INFINITY, 0],
    ['between two blocks', 2.5, 2],
    ['where the window begins', 4, 4],
    ['in the window', 5, 4],
    ['behind the prefix', 99, 4],
    ['infinity', Number.POSITIVE_INFINITY, 4],
    ['no number', Number.NaN, 4],
  ])('a first block that is %s is brought to where it makes sense', async (_, wanted, first) => {
    await withAll(async (manager) => {
      const { result, positions } = await loaded(manager, { firstWanted: () => wanted })
      expect(result.tokens).toBe(24)
      expect(positions).toEqual([from(0), from(first)])
    })
  })

  test('the question names each sliding group, and no other, with the prefix that is loaded', async () => {
    await withAll(async (manager) => {
      const asked: [string, number][] = []
      const { positions } = await loaded(manager, {
        maxBlocks: 5,
        firstWanted: (group, blocks) => {
          asked.push([group.name, blocks])
          return blocks - 3
        },
      })
      expect(asked).toEqual([['sliding', 5]])
      expect(positions).toEqual([from(0, 5), from(2, 5), [4]])
      expect((await loaded(manager, { maxBlocks: 0, firstWanted: all })).positions).toEqual([[], [], []])
    }, HYBRID)
  })

  test('one that asks for another match does not disturb its own', async () => {
    await withAll(async (manager) => {
      const other = manager.sequence(tokens(2, 64), { tenant: 'a' })
      const firstWanted = (): number => other.match().tokens
      expect((await loaded(manager, { firstWanted })).positions).toEqual([from(0), from(0), [5]])
    }, HYBRID)
  })

  test.each([1, 3])('where block %d is missing only the window comes', async (missing) => {
    await withAll(async (manager) => {
      lose(manager, 1, missing)
      const { result, positions, pinned } = await loaded(manager, { firstWanted: () => 1 })
      expect(result).toMatchObject({ tokens: 24, message: '' })
      expect(positions).toEqual([from(0), from(4)])
      expect(pinned).toBe(8)
    })
  })

  test('a block that is missing before what is wanted changes nothing', async () => {
    await withAll(async (manager) => {
      lose(manager, 1, 0)
      expect((await loaded(manager, { firstWanted: () => 1 })).positions).toEqual([from(0), from(1)])
    })
  })

  test('where an earlier block has expired only the window comes', async () => {
    const start = 1_800_000_000_000
    const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
    const manager = await BlockManager.open(options(null))
    await storeAll(manager, 'host')
    for (const block of [0, 1]) lose(manager, 1, block)
    // The full group's blocks are held already, and have no end to their time.
    await store(manager, manager.sequence(tokens(1, 8), { tenant: 'a', ttlMs: 5_000 }))
    expect((await loaded(manager, { firstWanted: all })).positions).toEqual([from(0), from(0)])
    clock.mockReturnValue(start + 60_000)
    expect((await loaded(manager, { firstWanted: all })).positions).toEqual([from(0), from(4)])
    expectQuiet(manager)
    await manager.close()
  })

  test('a block that is in device memory only is not held for this', async () => {
    await withAll(async (manager) => {
      await store(manager, promptOf(manager), { firstBlock: 2, blocks: 1 })
      const { blocks, entry } = findBlock(manager, 1, 2)
      const passedOver: number[] = []
      for (let next = blocks.victim(HOST); next !== entry; next = blocks.victim(HOST)) passedOver.push(next)
      expect(blocks.evict(entry, HOST)).toBe(true)
      for (const each of passedOver) blocks.stay(each, HOST)
      expect([DEVICE, HOST].map((tier) => blocks.holds(entry, tier))).toEqual([true, false])
      const { result, positions } = await loaded(manager, { firstWanted: all })
      expect(result).toMatchObject({ tokens: 24, message: '' })
      expect(positions).toEqual([from(0), from(4)])
    })
  })

  test('anything but a function is refused', async () => {
    await withAll(async (manager) => {
      const loading = manager.host.load(promptOf(manager), { firstWanted: 3 as never })
      await expect(loading).rejects.toMatchObject({
        code: 'ERR_KV_INVALID_TYPE',
        message: expect.stringContaining('firstWanted'),
      })
    })
  })

  test('a question that throws ends the load with what it threw, and holds nothing', async () => {
    await withAll(async (manager) => {
      const firstWanted = (): number => {
        throw new Error('no ring')
      }
      await expect(manager.host.load(promptOf(manager), { firstWanted })).rejects.toThrow('no ring')
    })
  })

  test('a match and an onboard take no more than the window, also after a load that took more', async () => {
    await withAll(async (manager) => {
      const before = promptOf(manager).match()
      await loaded(manager, { firstWanted: all })
      expect(promptOf(manager).match()).toEqual(before)
      expect(await load(manager, promptOf(manager))).toMatchObject({ tokens: 24, checked: 8, wrong: 0 })
    })
  })
})

describe('earlier blocks on disk', () => {
  test('come from there', async () => {
    await withAllOnDisk(async (manager) => {
      const { result, positions } = await loaded(manager, { firstWanted: all })
      expect(result.tokens).toBe(24)
      expect(tiersOf(result)).toEqual(Array(BLOCKS).fill('disk'))
      expect(positions).toEqual([from(0), from(0)])
      expect(manager.stats().tiers.host).toMatchObject({ held: 12, pinned: 0 })
    })
  })

  test('are where their block came from, though the other groups found it nearer', async () => {
    await withAllOnDisk(async (manager) => {
      await loaded(manager, {})
      const { result } = await loaded(manager, { firstWanted: () => 2 })
      expect(tiersOf(result)).toEqual(['host', 'host', 'disk', 'disk', 'host', 'host'])
    })
  })

  test('are loaded once for two that want them', async () => {
    await withAllOnDisk(async (manager) => {
      const both = await Promise.all([loaded(manager, { firstWanted: all }), loaded(manager, { firstWanted: () => 1 })])
      expect(both.map(({ positions }) => positions[1])).toEqual([from(0), from(1)])
      expect(manager.stats().counters.diskReads).toBe(12)
    })
  })

  test('get the host slots that the window leaves; where those are too few only the window comes', async () => {
    await withAllOnDisk(async (manager) => {
      const { blocks } = manager.internals.context.groups[1]!
      const taken: number[] = []
      for (let slot = blocks.takeFree(HOST); slot >= 0; slot = blocks.takeFree(HOST)) taken.push(slot)
      for (const slot of taken.splice(0, 3)) blocks.giveBack(HOST, slot)
      const { result, positions } = await loaded(manager, { firstWanted: all })
      expect(result.tokens).toBe(24)
      expect(result.message).toContain('no slot')
      expect(positions).toEqual([from(0), from(4)])
      for (const slot of taken) blocks.giveBack(HOST, slot)
    })
  })
})

describe('an earlier block that does not arrive', () => {
  test('is lost where its bytes are wrong, and costs the blocks before the window and no more', async () => {
    await withAllOnDisk(
      async (manager) => {
        const { result, positions } = await loaded(manager, { firstWanted: () => 1 })
        expect(codesOf(result)).toEqual(Array(BLOCKS).fill('OK'))
        expect(result.tokens).toBe(24)
        expect(result.message).not.toBe('')
        expect(positions).toEqual([from(0), from(4)])
        expect(manager.stats().counters).toMatchObject({ checksumFailures: 1, lost: 1 })
        const again = await loaded(manager, { firstWanted: () => 1 })
        expect(again.result).toMatchObject({ tokens: 24, message: '' })
        expect(again.positions).toEqual([from(0), from(4)])
        expect((await loaded(manager, { firstWanted: () => 3 })).positions).toEqual([from(0), from(3)])
      },
      (directory) => damage(directory, [[1, 2]]),
    )
  })

  test('before the deadline costs the blocks before the window and no more', async () => {
    await withAllOnDisk(async (manager) => {
      await loaded(manager, {})
      await withHeldIo(async () => {
        const { result, positions } = await loaded(manager, { firstWanted: all, deadlineMs: LATE_MS })
        expect(result.tokens).toBe(24)
        expect(codesOf(result)).toEqual(Array(BLOCKS).fill('OK'))
        expect(result.message).not.toBe('')
        expect(positions).toEqual([from(0), from(4)])
      })
    })
  })

  test('because the load was given up leaves what was there', async () => {
    await withAllOnDisk(async (manager) => {
      await loaded(manager, {})
      await withHeldIo(async () => {
        const end = new AbortController()
        const loading = loaded(manager, { firstWanted: all, signal: end.signal })
        await untilHeld()
        end.abort()
        expect((await loading).positions).toEqual([from(0), from(4)])
      })
    })
  })

  test('and neither does any other, leaves a reading of nothing', async () => {
    await withAllOnDisk(async (manager) => {
      await withHeldIo(async () => {
        const reading = await manager.host.load(promptOf(manager), { firstWanted: all, deadlineMs: LATE_MS })
        expect(reading.result.tokens).toBe(0)
        expect(await positionsOf(manager, reading)).toEqual([[], []])
        reading.release()
      })
    })
  })

  test('before the deadline because another load is still bringing it makes every block a miss', async () => {
    await withAllOnDisk(async (manager) => {
      await loaded(manager, {})
      await withHeldIo(async () => {
        const first = loaded(manager, { firstWanted: all, deadlineMs: 0 })
        await untilHeld()
        const { result, positions } = await loaded(manager, { firstWanted: all, deadlineMs: LATE_MS })
        expect(codesOf(result)).toEqual(Array(BLOCKS).fill('ERR_KV_DEADLINE'))
        expect(positions).toEqual([[], []])
        testing.releaseIo()
        expect((await first).positions).toEqual([from(0), from(0)])
      })
    })
  })

  test('where a full block behind it does not either, leaves what there would be without it', async () => {
    await withAllOnDisk(
      async (manager) => {
        const { result, positions } = await loaded(manager, { firstWanted: () => 1 })
        expect(result.tokens).toBe(0)
        expect(positions).toEqual([[], []])
      },
      (directory) =>
        damage(directory, [
          [0, 4],
          [1, 2],
        ]),
    )
  })

  test('now and then leaves a prefix with its window and nothing else', async () => {
    const offered = new Set<number>()
    for (let seed = 1; seed <= 40; seed++) {
      await withAllOnDisk(async (manager) => {
        await withFaults({ seed, readError: 0.35 }, async () => {
          const { result } = await loaded(manager, { firstWanted: () => 1 })
          offered.add(result.tokens / 4)
        })
        expect((await loaded(manager, { firstWanted: () => 1 })).positions).toEqual([from(0), from(1)])
      })
    }
    expect(offered.has(0) && offered.has(BLOCKS)).toBe(true)
  })
})

test('a full block that does not arrive leaves a shorter prefix, whose window came with the earlier blocks', async () => {
  await withAllOnDisk(
    async (manager) => {
      const { result, positions } = await loaded(manager, { firstWanted: () => 1 })
      expect(result.tokens).toBe(16)
      expect(positions).toEqual([from(0, 4), from(1, 4)])
    },
    (directory) => damage(directory, [[0, 4]]),
  )
})
