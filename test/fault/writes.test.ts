import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { defineLayout } from '../../lib/identity/model-layout.ts'
import type { FaultProfile } from '../../lib/native/binding.ts'
import { ownedDevice } from '../support/device-kind.ts'
import { testing, withFaults } from '../support/io.ts'
import { diskStrideOf, strideOf } from '../support/layouts.ts'
import { testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

/** Two blocks a run: a batch of eight takes several calls. */
const BIG = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [{ name: 'full', kind: 'full', layers: 4, bytesPerToken: 32_768 }],
})

const LIES: readonly (readonly [string, Omit<FaultProfile, 'seed'>])[] = [
  ['flip a bit', { writeFlip: 0.4 }],
  ['are lost', { lostWrite: 0.4 }],
  ['go to another place', { misdirectedWrite: 0.4 }],
  [
    'do all of that, and fail, and are short',
    { writeFlip: 0.1, lostWrite: 0.1, misdirectedWrite: 0.1, writeError: 0.1, shortWrite: 0.3 },
  ],
]

describe('a write that fails', () => {
  test.each([
    ['EIO', { writeError: 1 }],
    ['ENOSPC', { writeNoSpace: 1 }],
  ] as const)('with %s leaves the blocks in host memory, and says so', async (_, profile) => {
    await withManager({}, async (manager, _engine, directory) => {
      const failures: { tier: string; code: string }[] = []
      manager.on('tierFailed', (event) => failures.push(event))
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      const result = await withFaults({ seed: 1, ...profile }, () => store(manager, sequence, { until: 'disk' }))
      expect(codesOf(result)).toEqual(Array(8).fill('OK'))
      expect(tiersOf(result)).toEqual(Array(8).fill('host'))
      expect(result.message).not.toBe('')
      const code = 'writeError' in profile ? 'ERR_KV_IO' : 'ERR_KV_NO_SPACE'
      expect(failures.length).toBeGreaterThan(0)
      for (const failure of failures) expect(failure).toMatchObject({ tier: 'disk', code })
      expect(manager.stats().tiers.disk).toMatchObject({ held: 0, filling: 0 })
      expect(manager.stats().counters.diskWrites).toBe(0)
      expect(manager.stats().counters.transferFailures).toBeGreaterThanOrEqual(8)
      expectQuiet(manager)
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      expect(tiersOf(await store(manager, sequence, { until: 'disk' }))).toEqual(Array(8).fill('disk'))
      await manager.close({ flush: false })
      const next = await BlockManager.open(testOptions(directory))
      expect(await load(next, next.sequence(tokens(1, 32), { tenant: 'a' }))).toMatchObject({ tokens: 32, wrong: 0 })
      await next.close()
    })
  })

  test('while another block must leave host memory costs that block, not the store', async () => {
    await withManager({ host: { capacityBytes: 8 * 16_384 } }, async (manager) => {
      const old = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, old)
      emptyDevice(manager)
      await withFaults({ seed: 1, writeError: 1 }, async () => {
        const result = await store(manager, manager.sequence(tokens(2, 32), { tenant: 'a' }))
        expect(tiersOf(result)).toEqual(Array(8).fill('host'))
      })
      expect(old.match().tokens).toBe(0)
      expectQuiet(manager)
      emptyDevice(manager)
      expect(await load(manager, manager.sequence(tokens(2, 32), { tenant: 'a' }))).toMatchObject({
        tokens: 32,
        wrong: 0,
      })
    })
  })

  test('half-way through a batch has an outcome of its own for every block', async () => {
    await withDirectory(async (directory) => {
      const options = testOptions(null, {
        layout: BIG,
        device: ownedDevice(8),
        host: { capacityBytes: 8 * strideOf(BIG) },
        disk: { directory, capacityBytes: 16 * diskStrideOf(BIG) },
        engine: { threads: 8 },
      })
      const manager = await BlockManager.open(options)
      const patterns = new Set<string>()
      for (let seed = 1; seed <= 12; seed++) {
        const sequence = manager.sequence(tokens(seed, 32), { tenant: 'a' })
        const result = await withFaults({ seed, writeError: 0.5 }, () => store(manager, sequence, { until: 'disk' }))
        expect(codesOf(result)).toEqual(Array(8).fill('OK'))
        const tiers = tiersOf(result)
        // Whatever is on disk can be used: it is a run from the first block.
        const onDisk = tiers.indexOf('host') < 0 ? 8 : tiers.indexOf('host')
        expect(tiers).toEqual([...Array(onDisk).fill('disk'), ...Array(8 - onDisk).fill('host')])
        patterns.add(`${onDisk}`)
        expectQuiet(manager)
        emptyDevice(manager)
        expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
      }
      // Some batches were cut in the middle.
      expect([...patterns].some((each) => each !== '0' && each !== '8')).toBe(true)
      await manager.close()
    })
  })
})

test('short writes are continued', async () => {
  await withManager({}, async (manager, _engine, directory) => {
    await withFaults({ seed: 2, shortWrite: 0.7 }, async () => {
      for (const seed of [1, 2, 3]) {
        const result = await store(manager, manager.sequence(tokens(seed, 32), { tenant: 'a' }), { until: 'disk' })
        expect(tiersOf(result)).toEqual(Array(8).fill('disk'))
      }
      expect(testing.faultsInjected()).toBeGreaterThan(0)
    })
    await manager.close()
    const next = await BlockManager.open(testOptions(directory))
    for (const seed of [1, 2, 3]) {
      emptyDevice(next)
      expect(await load(next, next.sequence(tokens(seed, 32), { tenant: 'a' }))).toMatchObject({ tokens: 32, wrong: 0 })
    }
    await next.close()
  })
})

describe('writes that report success and', () => {
  const cases = LIES.flatMap(([name, profile]) => [1, 2, 3, 4, 5, 6].map((seed) => [name, seed, profile] as const))
  test.each(cases)('%s are misses later, never wrong bytes (seed %d)', async (_, seed, profile) => {
    await withDirectory(async (directory) => {
      // 12 prompts of 4 blocks share 24 disk slots, so that slots are written again over other blocks.
      const options = testOptions(null, {
        host: { capacityBytes: 6 * 16_384 },
        disk: { directory, capacityBytes: 24 * (16_384 + 128) },
      })
      let manager = await BlockManager.open(options)
      const check = async (): Promise<number> => {
        let held = 0
        for (let each = 1; each <= 12; each++) {
          emptyDevice(manager)
          const found = await load(manager, manager.sequence(tokens(each, 16), { tenant: 'a' }))
          expect(found.wrong, `prompt ${each}`).toBe(0)
          held += found.tokens
        }
        expectQuiet(manager)
        return held
      }
      let injected = 0
      for (let round = 0; round < 3; round++) {
        await withFaults({ seed: seed * 10 + round, ...profile }, async () => {
          for (let each = 1; each <= 12; each++) {
            await store(manager, manager.sequence(tokens(each, 16), { tenant: 'a' }), { until: 'disk' })
          }
          injected += testing.faultsInjected()
        })
        await check()
        await manager.close({ flush: false })
        manager = await BlockManager.open(options)
        await check()
      }
      expect(injected).toBeGreaterThan(0)
      // The store is as good as new for what is written without faults.
      await store(manager, manager.sequence(tokens(99, 16), { tenant: 'a' }), { until: 'disk' })
      await manager.close()
      manager = await BlockManager.open(options)
      expect(await load(manager, manager.sequence(tokens(99, 16), { tenant: 'a' }))).toMatchObject({
        tokens: 16,
        wrong: 0,
      })
      await manager.close()
    })
  })
})
