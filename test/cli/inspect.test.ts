import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import type { InspectedSlab } from '../../lib/cli/native-access.js'
import { KvError } from '../../lib/errors.js'
import { temporaryFolder } from '../support/folder.js'
import { storeFolder } from './store-folder.js'
import { fakeSlab, run } from './world.js'

const A = 'a'.repeat(32)
const B = 'b'.repeat(32)

/** A fake addon over slabs by `<fingerprint>/<group>`; a KvError instead of a slab is thrown. */
function fakeSlabs(slabs: Readonly<Record<string, InspectedSlab | KvError>>) {
  const closed: unknown[] = []
  return {
    closed,
    inspectSlab: async (directory: string, group: number) => {
      const slab = slabs[`${directory.split('/').at(-1)}/${group}`]
      if (slab === undefined || slab instanceof KvError) throw slab ?? new Error('unexpected')
      return slab
    },
    close: async (storage: unknown) => void closed.push(storage),
  }
}

const SLAB = fakeSlab(
  [
    { slot: 3, depth: 0, tenantTag: 0xabcdef, lastUseS: 1_700_000_000 },
    { slot: 4, depth: 1, tenantTag: 0xabcdef, lastUseS: 1_700_000_100 },
    { slot: 9, depth: 0, tenantTag: 7, lastUseS: 0 },
  ],
  { recordsRejected: 1, recordsSuperseded: 2, recordsOrphaned: 3 },
)

describe('kvtier inspect', () => {
  it('lists stores and groups with everything their tables say', async () => {
    const root = storeFolder({ [B]: [0], [A]: [1, 0] })
    const fake = fakeSlabs({ [`${A}/0`]: SLAB, [`${A}/1`]: fakeSlab([]), [`${B}/0`]: fakeSlab([]) })
    const { exitCode, stdout } = await run(['inspect', root, '--json'], { fake })
    expect(exitCode).toBe(0)
    const { stores, directory } = JSON.parse(stdout)
    expect(directory).toBe(root)
    expect(stores.map((store: { fingerprint: string }) => store.fingerprint)).toEqual([A, B])
    expect(stores[0].directory).toBe(join(root, 'v1', A))
    expect(stores[0].groups[0]).toEqual({
      group: 0,
      slots: 100,
      slotsMissing: 0,
      used: 3,
      parts: 1,
      layers: 2,
      outer: 2,
      tokensPerBlock: 4,
      bytesPerToken: 4,
      blockBytes: 64,
      usedBytes: 192,
      capacityBytes: 409_600,
      recordsRejected: 1,
      recordsSuperseded: 2,
      recordsOrphaned: 3,
      recordsUnreadable: 0,
      deepestChain: 2,
      tenants: [
        { tag: '00abcdef', blocks: 2 },
        { tag: '00000007', blocks: 1 },
      ],
      oldestUseS: 1_700_000_000,
      newestUseS: 1_700_000_100,
    })
    expect(stores[0].groups[1]).toMatchObject({ group: 1, used: 0, deepestChain: 0, oldestUseS: 0, tenants: [] })
    expect(fake.closed).toHaveLength(3)
  })

  it('prints the same for people', async () => {
    const root = storeFolder({ [A]: [0] })
    const { stdout } = await run(['inspect', root], { fake: fakeSlabs({ [`${A}/0`]: SLAB }) })
    expect(stdout).toContain(`store ${A}`)
    expect(stdout).toMatch(/^ +0 +100 +3 +192 B +64 B +4 +2 +1 +2 +3$/m)
    expect(stdout).toContain('used 2023-11-14 22:13:20Z to 2023-11-14 22:15:00Z')
    expect(stdout).toMatch(/^00abcdef +2$/m)
  })

  it('takes the directory of one store, and the one that holds the stores', async () => {
    const root = storeFolder({ [A]: [0] })
    const fake = fakeSlabs({ [`${A}/0`]: SLAB })
    for (const directory of [join(root, 'v1', A), join(root, 'v1')]) {
      const { stdout } = await run(['inspect', directory, '--json'], { fake })
      expect(JSON.parse(stdout).stores).toMatchObject([{ fingerprint: A, groups: [{ used: 3 }] }])
    }
  })

  it('finds a directory from the current one', async () => {
    const root = storeFolder({ [A]: [0] })
    const { exitCode } = await run(['inspect', 'v1'], { cwd: root, fake: fakeSlabs({ [`${A}/0`]: SLAB }) })
    expect(exitCode).toBe(0)
  })

  it('reports what it can when one table cannot be read, with exit code 1', async () => {
    const root = storeFolder({ [A]: [0], [B]: [0] })
    const fake = fakeSlabs({ [`${A}/0`]: SLAB, [`${B}/0`]: new KvError('ERR_KV_NOT_A_STORE', 'no superblock') })
    const json = await run(['inspect', root, '--json'], { fake })
    expect(json.exitCode).toBe(1)
    expect(JSON.parse(json.stdout).stores[1].groups).toEqual([
      { group: 0, error: { code: 'ERR_KV_NOT_A_STORE', message: 'no superblock' } },
    ])
    const { stdout } = await run(['inspect', root], { fake })
    expect(stdout).toContain('group 0: no superblock (ERR_KV_NOT_A_STORE)')
  })

  it('says so when a table is shorter than its superblock says, with exit code 1', async () => {
    const root = storeFolder({ [A]: [0] })
    const fake = fakeSlabs({ [`${A}/0`]: { ...SLAB, slotsMissing: 25 } })
    const { exitCode, stdout } = await run(['inspect', root], { fake })
    expect(exitCode).toBe(1)
    expect(stdout).toContain('group 0: the table was cut: it has records for 75 of 100 slots')
  })

  it('says so when the disk fails where records are, with exit code 1', async () => {
    const root = storeFolder({ [A]: [0] })
    const fake = fakeSlabs({ [`${A}/0`]: fakeSlab([{ slot: 1 }], { recordsUnreadable: 32 }) })
    const { exitCode, stdout } = await run(['inspect', root], { fake })
    expect(exitCode).toBe(1)
    expect(stdout).toContain('group 0: the disk failed where 32 records are')
  })

  it('fails with the code of a table when none can be read', async () => {
    const root = storeFolder({ [A]: [0] })
    const fake = fakeSlabs({ [`${A}/0`]: new KvError('ERR_KV_NOT_A_STORE', 'no superblock') })
    const { exitCode, stdout, stderr } = await run(['inspect', root, '--json'], { fake })
    expect([exitCode, stdout, stderr]).toEqual([1, '', 'kvtier inspect: no superblock (ERR_KV_NOT_A_STORE)\n'])
  })

  it('does not take a fault of its own for a bad table', async () => {
    const root = storeFolder({ [A]: [0] })
    const { stderr } = await run(['inspect', root], { fake: fakeSlabs({}) })
    expect(stderr).toContain('ERR_KV_INTERNAL')
  })
})

describe.each(['inspect', 'verify'])('kvtier %s of what is no disk tier', (verb) => {
  it.each([
    ['a directory that is missing', (root: string) => join(root, 'none'), 'ERR_KV_NOT_A_DIRECTORY', 'does not exist'],
    ['a file', (root: string) => join(root, 'file'), 'ERR_KV_NOT_A_DIRECTORY', 'is a file, not a directory'],
    ['a path below a file', (root: string) => join(root, 'file', 'x'), 'ERR_KV_NOT_A_DIRECTORY', 'does not exist'],
    ['an empty directory', (root: string) => join(root, 'empty'), 'ERR_KV_NOT_A_STORE', 'holds no store'],
    ['a directory of other things', (root: string) => root, 'ERR_KV_NOT_A_STORE', 'holds no store'],
    ['a name that would move the cursor', (root: string) => join(root, '\u001b[2J'), 'ERR_KV_NOT_A_DIRECTORY', '?[2J'],
  ])('names %s', async (_, path, code, message) => {
    const root = temporaryFolder()
    mkdirSync(join(root, 'empty'))
    writeFileSync(join(root, 'file'), 'x')
    mkdirSync(join(root, 'v1', 'not-a-fingerprint'), { recursive: true })
    mkdirSync(join(root, 'v1', A))
    writeFileSync(join(root, 'v1', A, 'group-01.table'), '')
    mkdirSync(join(root, 'v1', A, 'group-0.table'))
    const { exitCode, stdout, stderr } = await run([verb, path(root)])
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`(${code})`)
    expect(stderr).toContain(message)
  })

  it('names a path that cannot be looked at', async () => {
    const { exitCode, stderr } = await run([verb, join(temporaryFolder(), 'x'.repeat(300))])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('(ENAMETOOLONG)')
    expect(stderr).toContain('(ERR_KV_IO)')
  })
})
