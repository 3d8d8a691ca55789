import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { SHARED, type Tenant } from '../../lib/identity/salt.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { THREADS } from '../support/disk.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

const BLOCKS = 4

/** A manager without a disk tier, closed after `run`. */
async function withHost(
  blocks: number,
  changes: Partial<ManagerOptions>,
  run: (manager: BlockManager) => Promise<void>,
) {
  const options = { host: { capacityBytes: blocks * TEST_STRIDE }, engine: { threads: THREADS }, ...changes }
  const manager = await BlockManager.open(testOptions(null, options))
  try {
    await run(manager)
  } finally {
    await manager.close()
  }
}

function prompt(manager: BlockManager, seed: number, tenant: Tenant = 'a', more: object = {}) {
  return manager.sequence(tokens(seed, BLOCKS * 4), { tenant, ...more })
}

/** Blocks of a prompt that are not only in device memory. */
function heldBelow(manager: BlockManager, seed: number, tenant: Tenant = 'a'): number {
  emptyDevice(manager)
  return prompt(manager, seed, tenant).match().blocks
}

describe('when host memory is full', () => {
  test('the least recently used prompt leaves, from its end', async () => {
    await withHost(12, {}, async (manager) => {
      for (const seed of [1, 2, 3]) await store(manager, prompt(manager, seed))
      await load(manager, prompt(manager, 1))
      await store(manager, manager.sequence(tokens(4, 8), { tenant: 'a' }))
      expect([1, 2, 3].map((seed) => heldBelow(manager, seed))).toEqual([4, 2, 4])
      await store(manager, prompt(manager, 5))
      expect([1, 2, 3].map((seed) => heldBelow(manager, seed))).toEqual([4, 0, 2])
      expect(manager.stats().counters.evictedFromHost).toBe(6)
      expectQuiet(manager)
    })
  })

  test('a prefix that several prompts share outlives their ends', async () => {
    await withHost(12, {}, async (manager) => {
      const sharing = (seed: number) => Uint32Array.from([...tokens(1, 8), ...tokens(seed, 8)])
      for (const seed of [2, 3, 4]) await store(manager, manager.sequence(sharing(seed), { tenant: 'a' }))
      expect(manager.stats().tiers.host.held).toBe(8)
      for (const seed of [5, 6]) await store(manager, prompt(manager, seed))
      emptyDevice(manager)
      const held = [2, 3, 4].map((seed) => manager.sequence(sharing(seed), { tenant: 'a' }).match().blocks)
      expect(Math.min(...held)).toBe(2)
      expect(held.reduce((sum, each) => sum + each - 2, 2)).toBe(4)
      expectQuiet(manager)
    })
  })

  test('blocks of a lower priority leave first, however new they are', async () => {
    await withHost(12, {}, async (manager) => {
      await store(manager, prompt(manager, 1, 'a', { priority: 90 }))
      await store(manager, prompt(manager, 2, 'a', { priority: 10 }))
      await store(manager, prompt(manager, 3, 'a', { priority: 50 }))
      await store(manager, prompt(manager, 4, 'a', { priority: 50 }))
      expect([1, 2, 3, 4].map((seed) => heldBelow(manager, seed))).toEqual([4, 0, 4, 4])
      for (const seed of [5, 6, 7]) await store(manager, prompt(manager, seed))
      expect(heldBelow(manager, 1)).toBe(4)
      expectQuiet(manager)
    })
  })

  test('blocks whose time is over make room before any other', async () => {
    await withHost(12, {}, async (manager) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      await store(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 2))
      await store(manager, prompt(manager, 3, 'a', { ttlMs: 10_000, priority: 100 }))
      clock.mockReturnValue(start + 11_000)
      const left: object[] = []
      const note = (event: object): number => left.push(event)
      manager.on('evicted', note)
      await store(manager, prompt(manager, 4))
      manager.off('evicted', note)
      expect([1, 2, 3, 4].map((seed) => heldBelow(manager, seed))).toEqual([4, 4, 0, 4])
      expect(manager.stats().counters).toMatchObject({ evictedFromHost: 4, lost: 0 })
      expect(left).toMatchObject([
        { tier: 'device', blocks: 4 },
        { tier: 'host', blocks: 4 },
      ])
      expectQuiet(manager)
    })
  })

  test('what leaves goes to disk first, with what is before it, and comes back from there', async () => {
    await withManager({ host: { capacityBytes: 8 * TEST_STRIDE } }, async (manager) => {
      for (let seed = 1; seed <= 8; seed++) await store(manager, prompt(manager, seed))
      expect(manager.stats().counters.lost).toBe(0)
      for (let seed = 1; seed <= 8; seed++) expect(heldBelow(manager, seed), `prompt ${seed}`).toBe(4)
      for (let seed = 1; seed <= 8; seed++) {
        emptyDevice(manager)
        expect(await load(manager, prompt(manager, seed))).toMatchObject({ tokens: 16, wrong: 0 })
      }
      expectQuiet(manager)
    })
  })

  test('fifo does not ask what was used', async () => {
    await withHost(8, { evictionPolicy: 'fifo' }, async (manager) => {
      for (const seed of [1, 2]) await store(manager, prompt(manager, seed))
      await load(manager, prompt(manager, 1))
      await store(manager, prompt(manager, 3))
      expect([1, 2, 3].map((seed) => heldBelow(manager, seed))).toEqual([0, 4, 4])
      expectQuiet(manager)
    })
  })
})

describe('a tenant with a quota', () => {
  const quotas = { small: { hostBytes: 4 * TEST_STRIDE, diskBytes: 6 * TEST_STRIDE } }

  test('never has more host blocks than that, and evicts its own', async () => {
    await withHost(16, { quotas }, async (manager) => {
      await store(manager, prompt(manager, 1, 'big'))
      for (let seed = 1; seed <= 5; seed++) {
        const result = await store(manager, prompt(manager, seed, 'small'))
        expect(codesOf(result)).toEqual(Array(4).fill('OK'))
        expect(manager.stats().tiers.host.held).toBe(8)
      }
      expect(heldBelow(manager, 5, 'small')).toBe(4)
      expect(heldBelow(manager, 4, 'small')).toBe(0)
      expect(heldBelow(manager, 1, 'big')).toBe(4)
      expectQuiet(manager)
    })
  })

  test('gets ERR_KV_OVER_QUOTA for what does not fit into it', async () => {
    await withHost(16, { quotas }, async (manager) => {
      const result = await store(manager, manager.sequence(tokens(1, 24), { tenant: 'small' }))
      expect(codesOf(result)).toEqual([...Array(4).fill('OK'), 'ERR_KV_OVER_QUOTA', 'ERR_KV_OVER_QUOTA'])
      const reading = await manager.host.load(manager.sequence(tokens(1, 24), { tenant: 'small' }))
      const other = await store(manager, prompt(manager, 2, 'small'))
      expect(codesOf(other)).toEqual(Array(4).fill('ERR_KV_OVER_QUOTA'))
      const none = await (await manager.host.reserve(prompt(manager, 3, 'small'))).publish()
      expect(codesOf(none)).toEqual(Array(4).fill('ERR_KV_OVER_QUOTA'))
      reading.release()
      expect((await store(manager, prompt(manager, 2, 'small'))).arrived).toBe(4)
      expectQuiet(manager)
    })
  })

  test('keeps to it also when several of its requests run beside each other', async () => {
    await withDirectory(async (directory) => {
      const options = testOptions(directory, { quotas, engine: { threads: THREADS } })
      const manager = await BlockManager.open(options)
      for (let round = 0; round < 6; round++) {
        const seeds = [1, 2, 3, 4].map((each) => round * 4 + each)
        await Promise.all(seeds.map((seed) => store(manager, prompt(manager, seed, 'small'), { until: 'disk' })))
        const { tiers } = manager.stats()
        expect(tiers.host.held + tiers.host.filling, `host, round ${round}`).toBeLessThanOrEqual(4)
        expect(tiers.disk.held + tiers.disk.filling, `disk, round ${round}`).toBeLessThanOrEqual(6)
      }
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('of no bytes stores nothing', async () => {
    await withHost(16, { quotas: { none: { hostBytes: 0 } } }, async (manager) => {
      const result = await store(manager, prompt(manager, 1, 'none'))
      expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_OVER_QUOTA'))
      expect((await store(manager, prompt(manager, 1, 'some'))).arrived).toBe(4)
      expectQuiet(manager)
    })
  })

  test('evicts of the others’ blocks no more than its quota leaves room for', async () => {
    await withManager({ quotas: { small: { hostBytes: 5 * TEST_STRIDE } } }, async (manager) => {
      await store(manager, prompt(manager, 1, 'small'))
      const other = manager.sequence(tokens(2, 48), { tenant: 'big' })
      await store(manager, other)
      emptyDevice(manager)
      expect(other.match().byTier).toEqual({ device: 0, host: 48, disk: 0 })
      const result = await store(manager, manager.sequence(tokens(3, 64), { tenant: 'small' }))
      expect(codesOf(result)).toEqual([...Array(5).fill('OK'), ...Array(11).fill('ERR_KV_OVER_QUOTA')])
      emptyDevice(manager)
      expect(other.match().byTier).toEqual({ device: 0, host: 44, disk: 4 })
      expect(manager.stats().tiers.host.free).toBe(0)
      expectQuiet(manager)
    })
  })

  test('that was given less than it has on disk gives up the rest when it stores there', async () => {
    await withDirectory(async (directory) => {
      const before = await BlockManager.open(testOptions(directory))
      await store(before, before.sequence(tokens(1, 64), { tenant: 'small' }), { until: 'disk' })
      await store(before, prompt(before, 1, 'big'), { until: 'disk' })
      await before.close()
      const manager = await BlockManager.open(testOptions(directory, { quotas }))
      expect(tiersOf(await store(manager, prompt(manager, 2, 'small'), { until: 'disk' }))).toEqual(
        Array(4).fill('disk'),
      )
      expect(manager.stats().tiers.disk.held).toBe(4 + 6)
      expect(heldBelow(manager, 1, 'big')).toBe(4)
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('does not lose its blocks to the others’ overflow beyond the common order', async () => {
    await withHost(8, { quotas: { small: { hostBytes: 4 * TEST_STRIDE } } }, async (manager) => {
      await store(manager, prompt(manager, 1, 'small', { priority: 100 }))
      for (let seed = 2; seed <= 6; seed++) await store(manager, prompt(manager, seed, 'big'))
      expect(heldBelow(manager, 1, 'small')).toBe(4)
      expectQuiet(manager)
    })
  })

  test('keeps its disk quota, and what other tenants have there', async () => {
    await withManager({ quotas, host: { capacityBytes: 16 * TEST_STRIDE } }, async (manager) => {
      await store(manager, prompt(manager, 1, 'big'), { until: 'disk' })
      for (let seed = 1; seed <= 4; seed++) {
        await store(manager, prompt(manager, seed, 'small'), { until: 'disk' })
        expect(manager.stats().tiers.disk.held).toBeLessThanOrEqual(4 + 6)
      }
      expect(tiersOf(await store(manager, prompt(manager, 1, 'big')))).toEqual(Array(4).fill('disk'))
      expectQuiet(manager)
    })
  })

  test('has the same quota after a restart, for what the disk still holds', async () => {
    await withDirectory(async (directory) => {
      const options = testOptions(directory, { quotas })
      const manager = await BlockManager.open(options)
      await store(manager, prompt(manager, 1, 'small'), { until: 'disk' })
      await manager.close()
      const next = await BlockManager.open(options)
      for (let seed = 2; seed <= 4; seed++) await store(next, prompt(next, seed, 'small'), { until: 'disk' })
      expect(next.stats().tiers.disk.held).toBeLessThanOrEqual(6)
      expectQuiet(next)
      await next.close()
    })
  })
})

describe('tenants', () => {
  test('never see each other’s blocks, in any tier, and SHARED is one of them', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const tenants: Tenant[] = ['a', 'A', 'a ', 'ä', 'a\u0308', 'shared', 'kvtier.shared', SHARED]
      for (const [i, tenant] of tenants.entries()) {
        for (const [j, other] of tenants.entries()) {
          expect(prompt(manager, 1, other).match().blocks, `${String(other)} after ${i}`).toBe(j < i ? 1 : 0)
        }
        await store(manager, manager.sequence(tokens(1, 4), { tenant }), { until: 'disk' })
      }
      expect(manager.stats().tiers.disk.held).toBe(tenants.length)
      await manager.close()
      const next = await BlockManager.open(testOptions(directory))
      for (const tenant of tenants) {
        expect(await load(next, prompt(next, 1, tenant))).toMatchObject({ tokens: 4, wrong: 0 })
      }
      expect(prompt(next, 1, 'nobody').match().blocks).toBe(0)
      await next.close()
    })
  })

  test('with another secret do not find what is on disk', async () => {
    await withDirectory(async (directory) => {
      const open = (secret: string) => BlockManager.open(testOptions(directory, { secret }))
      const manager = await open('one secret of 16 bytes')
      await store(manager, prompt(manager, 1), { until: 'disk' })
      await manager.close()
      const other = await open('other secret, 16 bytes')
      expect(prompt(other, 1).match().blocks).toBe(0)
      await other.close({ flush: false })
      const same = await open('one secret of 16 bytes')
      expect(await load(same, prompt(same, 1))).toMatchObject({ tokens: 16, wrong: 0 })
      await same.close()
    })
  })

  test('another model, revision, element type or layout in the same directory never hits', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      await store(manager, prompt(manager, 1), { until: 'disk' })
      await manager.close()
      const changes: Partial<ManagerOptions>[] = [
        { model: 'test2' },
        { model: { name: 'test', revision: 'r1' } },
        { model: { name: 'test', dtype: 'other' } },
        { model: { name: 'test', rope: { theta: 1e6 } } },
        { model: { name: 'test', tensorParallel: 2 } },
        { layout: { ...testOptions(null).layout, dtype: 'test2' } },
      ]
      for (const change of changes) {
        const other = await BlockManager.open(testOptions(directory, change))
        expect(other.stats().counters.recovered).toBe(0)
        expect(prompt(other, 1).match().blocks).toBe(0)
        await store(other, prompt(other, 1), { until: 'disk' })
        await other.close()
      }
      const again = await BlockManager.open(testOptions(directory, { model: { name: 'test' } }))
      expect(await load(again, prompt(again, 1))).toMatchObject({ tokens: 16, wrong: 0 })
      await again.close()
    })
  })
})
