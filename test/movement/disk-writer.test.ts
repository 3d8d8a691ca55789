import { describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { THREADS } from '../support/disk.ts'
import { testing, untilHeld, withHeldIo } from '../support/io.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

const disk = (directory: string, blocks: number) => ({
  disk: { directory, capacityBytes: blocks * (TEST_STRIDE + 128) },
})

/** Tokens that another manager finds on disk, all of them right. */
async function afterRestart(
  directory: string,
  blocks: number,
  seeds: readonly number[],
  count: number,
): Promise<number[]> {
  const manager = await BlockManager.open(testOptions(null, disk(directory, blocks)))
  const found: number[] = []
  for (const seed of seeds) {
    const { tokens: held, wrong } = await load(manager, manager.sequence(tokens(seed, count), { tenant: 'a' }))
    expect(wrong).toBe(0)
    found.push(held)
  }
  expectQuiet(manager)
  await manager.close({ flush: false })
  return found
}

describe('the disk tier stays prefix closed', () => {
  test('the tail of a prompt takes all blocks before it to disk', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, sequence, { blocks: 6 })
      expect(manager.stats().tiers.disk.held).toBe(0)
      const tail = await store(manager, sequence, { firstBlock: 6, until: 'disk' })
      expect(tiersOf(tail)).toEqual(['disk', 'disk'])
      expect(manager.stats().tiers.disk.held).toBe(8)
      const whole = await store(manager, sequence)
      expect(tiersOf(whole)).toEqual(Array(8).fill('disk'))
      expectQuiet(manager)
    })
  })

  test('a write-back takes a block’s parents along, so that a restart can use it', async () => {
    await withDirectory(async (directory) => {
      const options = { ...disk(directory, 64), host: { capacityBytes: 8 * TEST_STRIDE } }
      const manager = await BlockManager.open(testOptions(null, options))
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      // One block of another prompt pushes out the first one's last block only.
      await store(manager, manager.sequence(tokens(2, 4), { tenant: 'a' }))
      expect(manager.stats().tiers.disk.held).toBe(8)
      await manager.close({ flush: false })
      expect(await afterRestart(directory, 64, [1], 32)).toEqual([32])
    })
  })

  test('whatever is on disk after any number of stores and evictions can be used from its first block', async () => {
    await withDirectory(async (directory) => {
      const options = { ...disk(directory, 11), host: { capacityBytes: 7 * TEST_STRIDE } }
      const manager = await BlockManager.open(testOptions(null, options))
      for (let seed = 1; seed <= 12; seed++) {
        await store(manager, manager.sequence(tokens(seed % 5, 4 * (1 + (seed % 6))), { tenant: 'a' }), {
          until: seed % 3 === 0 ? 'host' : 'disk',
        })
      }
      await manager.close({ flush: false })
      const held = manager.stats().tiers.disk.held
      const next = await BlockManager.open(testOptions(null, disk(directory, 11)))
      // Nothing that the manager could find was an orphan for the next one.
      expect(next.stats().counters.recovered).toBeGreaterThanOrEqual(held)
      let found = 0
      for (let seed = 0; seed < 5; seed++) {
        const loaded = await load(next, next.sequence(tokens(seed, 24), { tenant: 'a' }))
        expect(loaded.wrong).toBe(0)
        found += loaded.tokens / 4
      }
      expect(found).toBe(next.stats().counters.recovered)
      await next.close({ flush: false })
    })
  })

  test('two branches written beside each other both find their common start', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(
        testOptions(null, { ...disk(directory, 64), engine: { threads: THREADS } }),
      )
      const branch = (seed: number) => Uint32Array.from([...tokens(1, 8), ...tokens(seed, 8)])
      const results = await Promise.all(
        [2, 3, 4].map((seed) => store(manager, manager.sequence(branch(seed), { tenant: 'a' }), { until: 'disk' })),
      )
      for (const result of results) expect(tiersOf(result)).toEqual(Array(4).fill('disk'))
      expect(manager.stats().counters.diskWrites).toBe(8)
      await manager.close({ flush: false })
      const next = await BlockManager.open(testOptions(null, disk(directory, 64)))
      for (const seed of [2, 3, 4]) {
        expect(await load(next, next.sequence(branch(seed), { tenant: 'a' }))).toMatchObject({ tokens: 16, wrong: 0 })
      }
      await next.close()
    })
  })
})

describe('a disk tier that is too small', () => {
  test('keeps the start of a prompt, however often its end is written', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(null, disk(directory, 4)))
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const first = await store(manager, sequence, { until: 'disk' })
      expect(tiersOf(first)).toEqual([...Array(4).fill('disk'), ...Array(4).fill('host')])
      for (let i = 0; i < 3; i++) {
        const again = await store(manager, sequence, { until: 'disk' })
        expect(tiersOf(again)).toEqual([...Array(4).fill('disk'), ...Array(4).fill('host')])
        await manager.flush()
        expect(manager.stats().tiers.disk.held).toBe(4)
      }
      expect(manager.stats().counters).toMatchObject({ diskWrites: 4, evictedFromDisk: 0 })
      expectQuiet(manager)
      await manager.close()
      expect(await afterRestart(directory, 4, [1], 32)).toEqual([16])
    })
  })

  test('gives a new prompt the slots of the one that was used least recently', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(null, disk(directory, 8)))
      for (const seed of [1, 2, 3]) {
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      }
      expect(manager.stats().counters.evictedFromDisk).toBe(4)
      await manager.close({ flush: false })
      expect(await afterRestart(directory, 8, [1, 2, 3], 16)).toEqual([0, 16, 16])
    })
  })
})

describe('what is written back to a full disk', () => {
  const small = (directory: string) =>
    testOptions(null, { ...disk(directory, 4), host: { capacityBytes: 8 * TEST_STRIDE }, engine: { threads: THREADS } })

  async function withSmall(run: (manager: BlockManager) => Promise<void>): Promise<void> {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(small(directory))
      await run(manager)
      expectQuiet(manager)
      await manager.close({ flush: false })
    })
  }

  const prompt = (manager: BlockManager, seed: number, more: object = {}) =>
    manager.sequence(tokens(seed, 16), { tenant: 'a', ...more })

  /** Blocks of a prompt that the disk holds. */
  function onDisk(manager: BlockManager, seed: number): number {
    emptyDevice(manager)
    return prompt(manager, seed).match().byTier.disk / 4
  }

  async function emptyHost(manager: BlockManager): Promise<void> {
    ;(await manager.host.reserve(manager.sequence(tokens(99, 32), { tenant: 'a' }))).release()
  }

  test('does not displace blocks that were used later', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 2), { until: 'disk' })
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([0, 4])
      expect(manager.stats().counters).toMatchObject({ evictedFromDisk: 0, diskWrites: 4, evictedFromHost: 8 })
    })
  })

  test('displaces blocks that were used earlier', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 2), { until: 'disk' })
      await store(manager, prompt(manager, 1))
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([4, 0])
    })
  })

  test('does not displace blocks of a higher priority, and does displace those of a lower one', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 1, { priority: 60 }), { until: 'disk' })
      await store(manager, prompt(manager, 2))
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([4, 0])
      await store(manager, prompt(manager, 3, { priority: 70 }))
      await store(manager, prompt(manager, 1))
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 3)]).toEqual([0, 4])
    })
  })

  test('displaces blocks whose time is over, however important', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    try {
      await withSmall(async (manager) => {
        await store(manager, prompt(manager, 1))
        await store(manager, prompt(manager, 2, { priority: 100, ttlMs: 1000 }), { until: 'disk' })
        vi.setSystemTime(Date.now() + 5000)
        await emptyHost(manager)
        expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([4, 0])
      })
    } finally {
      vi.useRealTimers()
    }
  })

  test('by flush is the newest of it, whole prompts first', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 2))
      expect(await manager.flush()).toBe(4)
      expect(await manager.flush()).toBe(0)
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([0, 4])
      expect(manager.stats().counters).toMatchObject({ evictedFromDisk: 0, diskWrites: 4 })
    })
  })

  test('by flush counts a use as new, not the store', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 2))
      await load(manager, prompt(manager, 1))
      expect(await manager.flush()).toBe(4)
      await emptyHost(manager)
      expect([onDisk(manager, 1), onDisk(manager, 2)]).toEqual([4, 0])
    })
  })

  test('until disk displaces whatever is not in use: it was asked for by name', async () => {
    await withSmall(async (manager) => {
      await store(manager, prompt(manager, 1, { priority: 90 }), { until: 'disk' })
      expect(tiersOf(await store(manager, prompt(manager, 2), { until: 'disk' }))).toEqual(Array(4).fill('disk'))
    })
  })
})

describe('a tenant that has used up its disk quota', () => {
  const quotas = { small: { diskBytes: 3 * TEST_STRIDE } }
  const ways: readonly (readonly [string, (manager: BlockManager) => Promise<unknown>])[] = [
    ['flush', (manager) => manager.flush()],
    ['close', (manager) => manager.close()],
    [
      'write-back',
      async (manager) => {
        ;(await manager.host.reserve(manager.sequence(tokens(9, 64), { tenant: 'c' }))).release()
      },
    ],
  ]
  const cases = ways.flatMap(([name, write]) =>
    [['small', 'big'] as const, ['big', 'small'] as const].map((order) => [name, order, write] as const),
  )

  test.each(cases)('keeps nobody else from the disk: %s, stored in the order %j', async (_, order, write) => {
    await withDirectory(async (directory) => {
      const options = testOptions(null, { ...disk(directory, 64), quotas })
      const manager = await BlockManager.open(options)
      const failures: object[] = []
      manager.on('tierFailed', (event) => failures.push(event))
      for (const tenant of order) await store(manager, manager.sequence(tokens(1, 32), { tenant }))
      await write(manager)
      await manager.close({ flush: false })
      expect(failures).toEqual([])
      expect(manager.stats().counters.transferFailures).toBe(0)
      const next = await BlockManager.open(options)
      const held = (tenant: string) => next.sequence(tokens(1, 32), { tenant }).match().blocks
      expect([held('small'), held('big')]).toEqual([3, 8])
      await next.close()
    })
  })

  test('is told so by what it stored until disk', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(null, { ...disk(directory, 64), quotas }))
      const failures: object[] = []
      manager.on('tierFailed', (event) => failures.push(event))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'small' })
      const result = await store(manager, sequence, { until: 'disk' })
      expect(tiersOf(result)).toEqual(['disk', 'disk', 'disk', 'host'])
      expect(result.arrived).toBe(3)
      expect(result.message).toContain('quota')
      expect(failures).toEqual([])
      expectQuiet(manager)
      await manager.close()
    })
  })
})

describe('a second copy of a block', () => {
  const prompt = (manager: BlockManager, seed: number) => manager.sequence(tokens(seed, 16), { tenant: 'a' })

  test('on disk is as old as its last use, not as its write', async () => {
    await withDirectory(async (directory) => {
      const options = { ...disk(directory, 8), host: { capacityBytes: 16 * TEST_STRIDE } }
      const manager = await BlockManager.open(testOptions(null, options))
      await store(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 2), { until: 'disk' })
      // The older one is written last.
      await manager.flush()
      expect(manager.stats().tiers.disk.held).toBe(8)
      await store(manager, prompt(manager, 3), { until: 'disk' })
      await manager.close({ flush: false })
      expect(await afterRestart(directory, 8, [1, 2, 3], 16)).toEqual([0, 16, 16])
    })
  })

  test('in host memory is as old as the request that loaded it', async () => {
    await withDirectory(async (directory) => {
      const options = { ...disk(directory, 64), host: { capacityBytes: 8 * TEST_STRIDE }, engine: { threads: THREADS } }
      const before = await BlockManager.open(testOptions(null, options))
      await store(before, prompt(before, 1), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(null, options))
      await store(manager, prompt(manager, 2), { until: 'disk' })
      await withHeldIo(async () => {
        const loading = prompt(manager, 1).onboard({ after: fence.quiet() })
        await untilHeld()
        // Used while the other one is on its way, and so after it.
        expect((await load(manager, prompt(manager, 2))).tokens).toBe(16)
        testing.releaseIo()
        ;(await loading.done).pin?.release()
        await loading.settled
      })
      await store(manager, prompt(manager, 3))
      emptyDevice(manager)
      expect(prompt(manager, 1).match().byTier.host).toBe(0)
      expect(prompt(manager, 2).match().byTier.host).toBe(16)
      expectQuiet(manager)
      await manager.close()
    })
  })
})

test('records keep priority and last use: after a restart the same blocks leave first', async () => {
  await withDirectory(async (directory) => {
    const manager = await BlockManager.open(testOptions(null, disk(directory, 8)))
    await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a', priority: 90 }), { until: 'disk' })
    await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a', priority: 10 }), { until: 'disk' })
    await manager.close()
    const next = await BlockManager.open(testOptions(null, disk(directory, 8)))
    await store(next, next.sequence(tokens(3, 16), { tenant: 'a' }), { until: 'disk' })
    emptyDevice(next)
    expect([1, 2, 3].map((seed) => next.sequence(tokens(seed, 16), { tenant: 'a' }).match().tokens)).toEqual([
      16, 0, 16,
    ])
    await next.close()
  })
})
