/** doctor, inspect and verify with the real addon, on disk tiers that a real block manager wrote. */
import { hash } from 'node:crypto'
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { BlockManager } from '../../lib/block-manager.js'
import { openNative } from '../../lib/cli/native-access.js'
import { PatternEngine } from '../../lib/cli/pattern-engine.js'
import { defineLayout } from '../../lib/identity/layer-groups.js'
import { fence } from '../../lib/movement/fence.js'
import { storeFile } from '../support/files.js'
import { temporaryFolder } from '../support/folder.js'
import { TEST_STRIDE, testOptions, tokens } from '../support/manager.js'
import { store } from '../support/slots.js'
import { type Ran, run } from './world.js'

const kvtier = (...args: string[]): Promise<Ran> => run(args, { native: openNative })

/** Stores `blocks` blocks of one sequence a tenant, and leaves the manager open. */
async function writeTier(directory: string, tenants: Readonly<Record<string, number>>): Promise<BlockManager> {
  const manager = await BlockManager.open(testOptions(directory))
  const engine = new PatternEngine(manager)
  for (const [index, [tenant, blocks]] of Object.entries(tenants).entries()) {
    const sequence = manager.sequence(tokens(index + 1, blocks * 4), { tenant })
    await sequence.prepare()
    const slots = manager.device.reserve(blocks)
    await engine.compute(slots.slots(), sequence.hashes.bytes.slice())
    const stored = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
    expect((await stored.done).arrived).toBe(blocks)
    await stored.settled
    slots.release()
  }
  return manager
}

async function closedTier(tenants: Readonly<Record<string, number>>): Promise<{ root: string; store: string }> {
  const root = temporaryFolder()
  const manager = await writeTier(root, tenants)
  await manager.close()
  const { stdout } = await kvtier('inspect', root, '--json')
  return { root, store: JSON.parse(stdout).stores[0].directory }
}

/** Flips one bit of a file. */
function flip(path: string, offset: number): void {
  const byte = readFileSync(path)[offset]!
  const file = openSync(path, 'r+')
  writeSync(file, Uint8Array.of(byte ^ 0x10), 0, 1, offset)
  closeSync(file)
}

const digestOf = (path: string): string => hash('sha256', readFileSync(path))

describe('kvtier inspect and verify of a real disk tier', () => {
  it('agree with what a manager stored, and find it good', async () => {
    const { root } = await closedTier({ acme: 5, other: 3 })
    const inspected = JSON.parse((await kvtier('inspect', root, '--json')).stdout)
    expect(inspected.stores).toHaveLength(1)
    expect(inspected.stores[0].groups).toMatchObject([
      {
        group: 0,
        used: 8,
        tokensPerBlock: 4,
        blockBytes: 16_384,
        usedBytes: 8 * 16_384,
        deepestChain: 5,
        recordsRejected: 0,
        recordsOrphaned: 0,
        tenants: [{ blocks: 5 }, { blocks: 3 }],
      },
    ])
    const now = Date.now() / 1000
    expect(inspected.stores[0].groups[0].newestUseS).toBeGreaterThan(now - 600)
    expect(inspected.stores[0].groups[0].oldestUseS).toBeLessThanOrEqual(now + 1)

    const verified = await kvtier('verify', root, '--json')
    expect(verified.exitCode).toBe(0)
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, blocks: 8, bytes: 8 * 16_384, badBlocks: 0 })
  })

  it('work while a manager has the store open', async () => {
    const root = temporaryFolder()
    const manager = await writeTier(root, { acme: 4 })
    try {
      expect((await kvtier('inspect', root)).exitCode).toBe(0)
      const { exitCode, stdout } = await kvtier('verify', root)
      expect([exitCode, stdout]).toEqual([0, expect.stringContaining('4 blocks (64 KiB) in 1 store checked')])
    } finally {
      await manager.close()
    }
  })

  it('find a flipped payload bit, name its slot, and write nothing', async () => {
    const { root, store } = await closedTier({ acme: 6 })
    const slab = join(store, 'group-0.slab')
    flip(slab, 2 * TEST_STRIDE + 777)
    const before = [digestOf(slab), digestOf(join(store, 'group-0.table'))]
    const { exitCode, stdout } = await kvtier('verify', root, '--json')
    expect(exitCode).toBe(1)
    const result = JSON.parse(stdout)
    expect(result).toMatchObject({ ok: false, blocks: 6, badBlocks: 1 })
    expect(result.stores[0].groups[0].bad).toMatchObject([{ slot: 2, code: 'ERR_KV_CHECKSUM' }])
    expect([digestOf(slab), digestOf(join(store, 'group-0.table'))]).toEqual(before)
    expect((await kvtier('verify', root)).stdout).toMatch(/^ +2 +[0-9a-f]{64} +ERR_KV_CHECKSUM$/m)
  })

  it('find a flipped record bit: the record is rejected, and the blocks behind it are orphans', async () => {
    const { root, store } = await closedTier({ acme: 6 })
    const table = readFileSync(join(store, 'group-0.table'))
    const records = 8192
    // Somewhere in the sequence hash of the first record that is in use.
    expect(table.length).toBeGreaterThanOrEqual(records + 6 * 128)
    flip(join(store, 'group-0.table'), records + 40)
    const { stdout } = await kvtier('inspect', root, '--json')
    const [group] = JSON.parse(stdout).stores[0].groups
    expect(group.recordsRejected).toBe(1)
    expect(group.used + group.recordsOrphaned).toBe(5)
    const verified = await kvtier('verify', root, '--json')
    expect([verified.exitCode, JSON.parse(verified.stdout).recordsRejected]).toEqual([1, 1])
  })

  it('report a slab that was cut as bad blocks', async () => {
    const { root, store } = await closedTier({ acme: 6 })
    truncateSync(join(store, 'group-0.slab'), 3 * TEST_STRIDE)
    const { exitCode, stdout } = await kvtier('verify', root, '--json')
    expect(exitCode).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ blocks: 6, badBlocks: 3 })
  })

  it('find a table that was cut: the blocks whose records are gone are named as missing slots', async () => {
    const { root, store } = await closedTier({ acme: 14 })
    const table = join(store, 'group-0.table')
    truncateSync(table, 8192 + 10 * 128 + 60)
    const { exitCode, stdout } = await kvtier('verify', root, '--json')
    expect(exitCode).toBe(1)
    // 64 slots; of the eleventh record a part is left.
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, badBlocks: 0, tablesCut: 1 })
    expect(JSON.parse(stdout).stores[0].groups).toMatchObject([{ blocks: 10, slotsMissing: 54 }])
    expect((await kvtier('verify', root)).stdout).toContain('it has records for 10 of 64 slots')
    const inspected = await kvtier('inspect', root, '--json')
    expect(inspected.exitCode).toBe(1)
    expect(JSON.parse(inspected.stdout).stores[0].groups).toMatchObject([{ slots: 64, slotsMissing: 54, used: 10 }])
  })

  it('find a table that was cut down to its superblock', async () => {
    const { root, store } = await closedTier({ acme: 3 })
    truncateSync(join(store, 'group-0.table'), 8192)
    const { exitCode, stdout } = await kvtier('verify', root, '--json')
    expect([exitCode, JSON.parse(stdout).stores[0].groups[0]]).toMatchObject([1, { blocks: 0, slotsMissing: 64 }])
  })

  it('report every other table when one is no table', async () => {
    const root = temporaryFolder()
    const layout = defineLayout({
      tokensPerBlock: 4,
      groups: ['one', 'two'].map((name) => ({ name, kind: 'full' as const, layers: 2, bytesPerToken: 1024 })),
    })
    const manager = await BlockManager.open(testOptions(root, { layout }))
    await store(manager, manager.sequence(tokens(1, 12), { tenant: 'a' }), { until: 'disk' })
    await manager.close()
    truncateSync(storeFile(root, 'group-0.table'), 0)
    for (const verb of ['verify', 'inspect']) {
      const { exitCode, stdout } = await kvtier(verb, root, '--json')
      expect(exitCode).toBe(1)
      expect(JSON.parse(stdout).stores[0].groups).toMatchObject([
        { group: 0, error: { code: 'ERR_KV_NOT_A_STORE' } },
        { group: 1, [verb === 'verify' ? 'blocks' : 'used']: 3 },
      ])
    }
  })

  it.each([
    ['garbage', Buffer.alloc(20_000, 0xab)],
    ['nothing', Buffer.alloc(0)],
    ['a few bytes', Buffer.from('hello')],
  ])('refuse a table of %s as no store', async (_, bytes) => {
    const { root, store } = await closedTier({ acme: 2 })
    writeFileSync(join(store, 'group-0.table'), bytes)
    for (const verb of ['inspect', 'verify']) {
      const { exitCode, stdout, stderr } = await kvtier(verb, root, '--json')
      expect([exitCode, stdout]).toEqual([1, ''])
      expect(stderr).toContain('(ERR_KV_NOT_A_STORE)')
    }
  })

  it('are as good without the lock and secret files', async () => {
    const { store } = await closedTier({ acme: 2 })
    expect((await kvtier('verify', store)).exitCode).toBe(0)
  })
})

describe('kvtier doctor with the real addon', () => {
  it('names the directory’s file system and leaves nothing in it', async () => {
    const folder = temporaryFolder()
    const { exitCode, stdout } = await kvtier('doctor', folder, '--json')
    const { machine, findings } = JSON.parse(stdout)
    expect(exitCode).toBe(0)
    expect(machine.directory).toMatchObject({ path: folder, exists: true, writable: true })
    expect(machine.cpu.count).toBeGreaterThan(0)
    expect(findings.map((finding: { name: string }) => finding.name)).toContain('io_uring')
    for (const finding of findings) expect(finding.remedy === '').toBe(finding.ok)
  })

  it('says what is wrong with a directory that is missing, with exit code 0', async () => {
    const { exitCode, stdout } = await kvtier('doctor', join(temporaryFolder(), 'none'))
    expect(exitCode).toBe(0)
    expect(stdout).toContain('no such directory')
  })
})
