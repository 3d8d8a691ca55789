import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { NO_SLOT } from '../../lib/native/binding.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { findInSlab, flipBit, storeFile } from '../support/files.ts'
import { testing, withFaults } from '../support/io.ts'
import { diskStrideOf, HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, load, store } from '../support/slots.ts'

const SEEDS = Array.from({ length: 12 }, (_, i) => i + 1)

/** Every block is right or a miss, and what may be used is the run of right ones. */
async function loadFaulty(manager: BlockManager, seed: number, count: number) {
  const sequence = manager.sequence(tokens(seed, count), { tenant: 'a' })
  const found = await load(manager, sequence)
  expect(found.wrong).toBe(0)
  const firstMiss = codesOf(found.result).findIndex((code) => code !== 'OK')
  expect(found.tokens).toBe(firstMiss < 0 ? found.result.blockCount * 4 : firstMiss * 4)
  // What came behind a miss cannot be used, and says so.
  expect(found.result.arrived).toBe(found.tokens / 4)
  for (let i = 0; i < found.result.blockCount; i++) {
    expect(found.result.tier(i) === 'none', `block ${i}`).toBe(found.result.code(i) !== 'OK')
  }
  return found
}

/** Fills host memory with blocks that are forgotten again, and device memory with nothing. */
async function publishOthers(manager: BlockManager, seed: number): Promise<void> {
  const reservation = await manager.host.reserve(manager.sequence(tokens(100 + seed, 64), { tenant: 'a' }))
  reservation.release()
  emptyDevice(manager)
}

describe('a read that fails', () => {
  test('is a miss with ERR_KV_IO; the blocks stay, and load when the disk reads again', async () => {
    await withDisk([1], 32, async (manager) => {
      const failures: object[] = []
      manager.on('tierFailed', (event) => failures.push(event))
      await withFaults({ seed: 1, readError: 1 }, async () => {
        const { result } = await loadFaulty(manager, 1, 32)
        expect(codesOf(result)).toEqual(Array(8).fill('ERR_KV_IO'))
        expect(result.message).not.toBe('')
      })
      expect(failures.length).toBeGreaterThan(0)
      expect(manager.stats().counters).toMatchObject({
        transferFailures: 8,
        checksumFailures: 0,
        lost: 0,
        diskReads: 0,
      })
      expectQuiet(manager)
      expect(await loadFaulty(manager, 1, 32)).toMatchObject({ tokens: 32, checked: 8 })
      expectQuiet(manager)
    })
  })

  test('now and then costs only its own blocks', async () => {
    await withDisk([1, 2, 3], 32, async (manager) => {
      let injected = 0
      for (const seed of SEEDS) {
        await withFaults({ seed, readError: 0.4 }, async () => {
          await Promise.all([1, 2, 3].map((each) => loadFaulty(manager, each, 32)))
          injected += testing.faultsInjected()
        })
        expectQuiet(manager)
        await publishOthers(manager, seed)
      }
      expect(injected).toBeGreaterThan(0)
      for (const each of [1, 2, 3]) expect(await loadFaulty(manager, each, 32)).toMatchObject({ tokens: 32 })
      expect(manager.stats().counters.lost).toBe(0)
      expectQuiet(manager)
    })
  })

  test('of a run of blocks is tried again block by block: one bad call costs nothing', async () => {
    await withDisk([1], 32, async (manager) => {
      await withFaults({ seed: 1, failCall: 1 }, async () => {
        expect(await loadFaulty(manager, 1, 32)).toMatchObject({ tokens: 32 })
        expect(testing.faultsInjected()).toBe(1)
      })
      expectQuiet(manager)
    })
  })
})

test('of a model with windows and states only what can be continued from is offered after a failure', async () => {
  const changes = { layout: HYBRID, host: { capacityBytes: 16 * strideOf(HYBRID) } }
  await withDirectory(async (directory) => {
    const options = testOptions(null, { ...changes, disk: { directory, capacityBytes: 64 * diskStrideOf(HYBRID) } })
    const before = await BlockManager.open(options)
    const chat = before.sequence(tokens(1, 24), { tenant: 'a' })
    // Snapshots after 2, 4, 5 and 6 blocks.
    for (const [firstBlock, blocks] of [
      [0, 2],
      [2, 2],
      [4, 1],
      [5, 1],
    ] as const) {
      await store(before, chat, { firstBlock, blocks, until: 'disk' })
    }
    await before.close()
    const offered = new Set<number>()
    for (let seed = 1; seed <= 40; seed++) {
      const manager = await BlockManager.open(options)
      await withFaults({ seed, readError: 0.45 }, async () => {
        const sequence = manager.sequence(tokens(1, 24), { tenant: 'a' })
        const transfer = sequence.onboard({ after: fence.quiet() })
        const result = await transfer.done
        await transfer.settled
        const blocks = result.tokens / 4
        offered.add(blocks)
        expect(result.pin?.blockCount).toBe(blocks)
        expect((await checkPin(manager, sequence, result.pin)).wrong).toBe(0)
        if (blocks > 0) {
          // A window of 5 tokens: the block before the end. A state: the snapshot at the end.
          for (const group of ['full', 'sliding', 'state']) {
            expect(result.pin?.slots(group)[blocks - 1], `${group} of ${blocks}`).not.toBe(NO_SLOT)
          }
        }
        result.pin?.release()
      })
      expectQuiet(manager)
      await manager.close({ flush: false })
    }
    expect(offered.has(0) && offered.has(6)).toBe(true)
  })
})

test('reads that bring fewer bytes than asked for are continued', async () => {
  await withDisk([1, 2], 64, async (manager) => {
    await withFaults({ seed: 5, shortRead: 0.7 }, async () => {
      for (const seed of [1, 2]) expect(await loadFaulty(manager, seed, 64)).toMatchObject({ tokens: 64 })
      expect(testing.faultsInjected()).toBeGreaterThan(0)
    })
    expectQuiet(manager)
  })
})

describe('a bit that flips on the way from disk', () => {
  test.each(SEEDS)('is a miss, never a wrong byte; block and descendants are gone (seed %d)', async (seed) => {
    await withDisk([1], 32, async (manager, directory) => {
      const lost: object[] = []
      manager.on('lost', (event) => lost.push(event))
      const first = await withFaults({ seed, readFlip: 1 }, () => loadFaulty(manager, 1, 32))
      const bad = codesOf(first.result).indexOf('ERR_KV_CHECKSUM')
      expect(bad).toBeGreaterThanOrEqual(0)
      expect(first.tokens).toBe(bad * 4)
      expect(manager.stats().counters.checksumFailures).toBeGreaterThan(0)
      expect(manager.stats().counters.lost).toBe(8 - bad)
      expect(lost.length).toBeGreaterThan(0)
      expectQuiet(manager)
      emptyDevice(manager)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      expect(sequence.match()).toMatchObject({ tokens: bad * 4, stoppedBy: bad === 8 ? 'prompt-end' : 'not-held' })
      expect(await loadFaulty(manager, 1, 32)).toMatchObject({ tokens: bad * 4 })
      await manager.close({ flush: false })
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(bad)
      expect(await loadFaulty(next, 1, 32)).toMatchObject({ tokens: bad * 4 })
      await next.close()
    })
  })

  test('is found where the bytes go through a staging buffer, and where they go to host memory only', async () => {
    await withDisk([1, 2], 32, async (manager) => {
      const taken = await manager.host.reserve(manager.sequence(tokens(9, 64), { tenant: 'a' }))
      await withFaults({ seed: 3, readFlip: 1 }, async () => {
        const { result } = await loadFaulty(manager, 1, 32)
        expect(codesOf(result)).toContain('ERR_KV_CHECKSUM')
      })
      taken.release()
      await withFaults({ seed: 3, readFlip: 1 }, async () => {
        const reading = await manager.host.load(manager.sequence(tokens(2, 32), { tenant: 'a' }))
        expect(codesOf(reading.result)).toContain('ERR_KV_CHECKSUM')
        reading.release()
      })
      while (manager.stats().tiers.disk.pinned > 0) await new Promise((resolve) => setImmediate(resolve))
      expectQuiet(manager)
    })
  })
})

describe('a block that is damaged on disk', () => {
  /** Prompt 1 on disk, with one bit of its block `bad` flipped in the slab. */
  async function withDamage(bad: number, run: (manager: BlockManager, directory: string) => Promise<void>) {
    await withDisk([1], 32, async (manager, directory) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const reading = await manager.host.load(sequence)
      const bytes = Uint8Array.from(reading.window(bad))
      reading.release()
      await manager.close({ flush: false })
      const slab = storeFile(directory, 'group-0.slab')
      flipBit(slab, findInSlab(slab, bytes, TEST_STRIDE) + 5000)
      const damaged = await BlockManager.open(testOptions(directory, { engine: { threads: THREADS } }))
      expect(damaged.stats().counters.recovered).toBe(8)
      try {
        await run(damaged, directory)
      } finally {
        await damaged.close({ flush: false })
      }
    })
  }

  test.each([0, 3, 7])(
    'ends the prefix there (block %d), and its record is erased, so that a restart does not find it',
    async (bad) => {
      await withDamage(bad, async (manager, directory) => {
        const { result } = await loadFaulty(manager, 1, 32)
        expect(result.tokens).toBe(bad * 4)
        expect(codesOf(result).slice(bad)).toEqual(['ERR_KV_CHECKSUM', ...Array(7 - bad).fill('ERR_KV_PARENT_LOST')])
        expect(manager.stats().counters).toMatchObject({ checksumFailures: 1, lost: 8 - bad })
        expectQuiet(manager)
        await manager.close({ flush: false })
        const next = await BlockManager.open(testOptions(directory))
        expect(next.stats().counters.recovered).toBe(bad)
        expect(next.sequence(tokens(1, 32), { tenant: 'a' }).match().tokens).toBe(bad * 4)
        await next.close()
      })
    },
  )

  test('is lost for a request that shares it, while the other waits for its fence', async () => {
    await withDamage(2, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const quiet = deferred()
      const waiting = sequence.onboard({
        after: fence.promise(quiet.promise),
      })
      const [one, two] = await Promise.all([loadFaulty(manager, 1, 32), loadFaulty(manager, 1, 16)])
      expect([one.tokens, two.tokens]).toEqual([8, 8])
      quiet.resolve()
      const result = await waiting.done
      expect(result.tokens).toBe(8)
      expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 2, wrong: 0 })
      result.pin?.release()
      await waiting.settled
      expectQuiet(manager)
    })
  })

  test('takes along what is behind it in device memory, also what the same request found there', async () => {
    await withDamage(1, async (manager) => {
      const sequence = manager.sequence(tokens(1, 40), { tenant: 'a' })
      const slots = manager.device.reserve(2)
      // Blocks 8 and 9 come from the device; those before them are on disk only.
      await compute(manager, sequence, slots, 8)
      const storing = sequence.offload({ from: slots, firstBlock: 8, after: fence.quiet() })
      expect(codesOf(await storing.done)).toEqual(['OK', 'OK'])
      await storing.settled
      slots.release()
      expect(sequence.match().byTier).toEqual({ device: 8, host: 0, disk: 32 })
      const found = await loadFaulty(manager, 1, 40)
      expect(found.tokens).toBe(4)
      expect(tiersOf(found.result)[0]).toBe('disk')
      expect(sequence.match().tokens).toBe(4)
      expectQuiet(manager)
    })
  })

  test('whose record cannot be erased is a miss again after a restart', async () => {
    await withDamage(4, async (manager, directory) => {
      await withFaults({ seed: 1, writeError: 1 }, async () => {
        expect(await loadFaulty(manager, 1, 32)).toMatchObject({ tokens: 16 })
      })
      expectQuiet(manager)
      await manager.close({ flush: false })
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(8)
      expect(await loadFaulty(next, 1, 32)).toMatchObject({ tokens: 16 })
      await next.close()
    })
  })
})
