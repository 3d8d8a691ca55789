import { existsSync, mkdirSync, readdirSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { defineLayout } from '../../lib/identity/model-layout.ts'
import { storeFile } from '../support/files.ts'
import { diskStrideOf, HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { load, store } from '../support/slots.ts'

/** Bytes of everything below a directory. */
function sizeOf(directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size
  }
  return bytes
}

describe('the disk tier', () => {
  test('never takes more than its capacity and a few pages, however much is stored', async () => {
    await withDirectory(async (directory) => {
      const capacityBytes = 20 * diskStrideOf(HYBRID)
      const options = testOptions(null, {
        layout: HYBRID,
        host: { capacityBytes: 8 * strideOf(HYBRID) },
        disk: { directory, capacityBytes },
      })
      const manager = await BlockManager.open(options)
      const opened = sizeOf(directory)
      for (let seed = 1; seed <= 12; seed++) {
        await store(manager, manager.sequence(tokens(seed, 24), { tenant: 'a' }), { until: 'disk' })
      }
      expect(sizeOf(directory)).toBe(opened)
      expect(opened).toBeLessThanOrEqual(capacityBytes + HYBRID.groups.length * 8 * 4096)
      expect(manager.stats().tiers.disk.slots).toBe(60)
      expectQuiet(manager)
      await manager.close()
    })
  })

  test('is made with its missing parents, for the owner alone', async () => {
    await withDirectory(async (directory) => {
      const below = join(directory, 'a')
      mkdirSync(below)
      const root = join(below, 'kv')
      const manager = await BlockManager.open(testOptions(root))
      expect(statSync(root).mode & 0o777).toBe(0o700)
      expect(statSync(storeFile(root, 'group-0.table')).mode & 0o077).toBe(0)
      await manager.close()
      expect(existsSync(root)).toBe(true)
    })
  })

  test('opened again with another capacity keeps what fits', async () => {
    await withDirectory(async (directory) => {
      const open = (blocks: number) =>
        BlockManager.open(testOptions(null, { disk: { directory, capacityBytes: blocks * (TEST_STRIDE + 128) } }))
      const manager = await open(16)
      for (const seed of [1, 2])
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      await manager.close()
      let found: number[] = []
      for (const blocks of [64, 6, 16]) {
        const next = await open(blocks)
        expect(next.stats().tiers.disk.slots).toBe(blocks)
        const held: number[] = []
        for (const seed of [1, 2]) {
          const loaded = await load(next, next.sequence(tokens(seed, 16), { tenant: 'a' }))
          expect(loaded.wrong).toBe(0)
          held.push(loaded.tokens)
        }
        expect(held[0]! + held[1]!).toBe(next.stats().counters.recovered * 4)
        if (blocks === 64) expect(held).toEqual([16, 16])
        else expect(held[0]! + held[1]!).toBeLessThanOrEqual(blocks * 4)
        found = held
        await next.close({ flush: false })
      }
      expect(found.length).toBe(2)
    })
  })

  test('of another layout beside it is another store, and each keeps its own', async () => {
    await withDirectory(async (directory) => {
      const layouts = [1, 2, 3].map((layers) =>
        defineLayout({ tokensPerBlock: 4, groups: [{ name: 'full', kind: 'full', layers, bytesPerToken: 512 }] }),
      )
      const managers = []
      for (const layout of layouts) {
        const manager = await BlockManager.open(testOptions(directory, { layout }))
        await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }), { until: 'disk' })
        managers.push(manager)
      }
      for (const manager of managers) await manager.close()
      for (const layout of layouts) {
        const manager = await BlockManager.open(testOptions(directory, { layout }))
        expect(manager.stats().counters.recovered).toBe(4)
        expect(await load(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))).toMatchObject({
          tokens: 16,
          wrong: 0,
        })
        await manager.close()
      }
    })
  })

  test('does not follow links out of its store', async () => {
    await withDirectory(async (directory) => {
      const root = join(directory, 'kv')
      const manager = await BlockManager.open(testOptions(root))
      await manager.close()
      const table = storeFile(root, 'group-0.table')
      const elsewhere = join(directory, 'elsewhere')
      renameSync(table, elsewhere)
      symlinkSync(elsewhere, table)
      await expect(BlockManager.open(testOptions(root))).rejects.toMatchObject({ code: 'ERR_KV_NOT_A_STORE' })
      renameSync(elsewhere, table)
      await (await BlockManager.open(testOptions(root))).close()
    })
  })

  test('says how long opening it took, and what it found', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }), { until: 'disk' })
      expect(manager.stats().counters.recovered).toBe(0)
      await manager.close()
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats()).toMatchObject({ counters: { recovered: 4 }, tiers: { disk: { held: 4, pinned: 0 } } })
      expect(next.stats().diskOpenMs).toBeGreaterThan(0)
      await next.close()
    })
  })
})
