import { describe, expect, it } from 'vitest'

import type { CliNative, InspectedSlab } from '../../lib/cli/native-access.js'
import { KvError } from '../../lib/errors.js'
import type { StorageHandle } from '../../lib/native/binding.js'
import { CODE } from '../../lib/native/generated.js'
import { storeFolder } from './store-folder.js'
import { type FakeBlock, fakeSlab, run } from './world.js'

const A = 'a'.repeat(32)
const B = 'b'.repeat(32)

/** A fake addon: every inspection gives the next slab of the list (the last one for ever); bad slots by number. */
function fakeDisk(slabs: readonly InspectedSlab[], bad: Readonly<Record<number, number>> = {}) {
  let inspections = 0
  const open = new Set<StorageHandle>()
  const batches: number[][] = []
  const native: Partial<CliNative> = {
    inspectSlab: async () => {
      const slab = slabs[Math.min(inspections++, slabs.length - 1)]!
      const storage = { inspection: inspections } as unknown as StorageHandle
      open.add(storage)
      return { ...slab, storage }
    },
    checkSlots: async (storage, slots, hashes) => {
      expect(open.has(storage)).toBe(true)
      expect(hashes).toHaveLength(slots.length * 32)
      batches.push([...slots])
      return Uint8Array.from(slots, (slot, place) => {
        expect(hashes[place * 32]).toBe(slot % 256)
        return bad[slot] ?? 0
      })
    },
    close: async (storage) => void open.delete(storage),
  }
  return { native, open, batches }
}

const blocks = (count: number): FakeBlock[] =>
  Array.from({ length: count }, (_, place) => ({ slot: count - 1 - place, hash: (count - 1 - place) % 256 }))

describe('kvtier verify', () => {
  it('checks every block in the order of the slots and closes what it opened', async () => {
    const disk = fakeDisk([fakeSlab(blocks(2500))])
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0] })], { fake: disk.native })
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^2,500 blocks \(156\.3 KiB\) in 1 store checked in 0 ms: all good\.\n$/)
    expect(disk.batches.map((batch) => batch.length)).toEqual([1024, 1024, 452])
    expect(disk.batches.flat()).toEqual(Array.from({ length: 2500 }, (_, slot) => slot))
    expect(disk.open.size).toBe(0)
  })

  it('bounds a batch by bytes where blocks are large', async () => {
    const shape = { parts: 1, layers: 32, outer: 2, tokensPerBlock: 16, bytesPerToken: 32_768 }
    const disk = fakeDisk([{ ...fakeSlab(blocks(5)), shape }])
    await run(['verify', storeFolder({ [A]: [0] })], { fake: disk.native })
    expect(disk.batches.map((batch) => batch.length)).toEqual([2, 2, 1])
  })

  it('lists bad slots with exit code 1', async () => {
    const bad = { 1: CODE.ERR_KV_CHECKSUM, 3: CODE.ERR_KV_IO }
    const root = storeFolder({ [A]: [0] })
    const text = await run(['verify', root], { fake: fakeDisk([fakeSlab(blocks(5))], bad).native })
    expect(text.exitCode).toBe(1)
    expect(text.stdout).toContain('2 bad')
    expect(text.stdout).toMatch(/^ +1 +01(00){31} +ERR_KV_CHECKSUM$/m)
    const json = await run(['verify', root, '--json'], { fake: fakeDisk([fakeSlab(blocks(5))], bad).native })
    expect(json.exitCode).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject({
      directory: root,
      ok: false,
      blocks: 5,
      bytes: 320,
      badBlocks: 2,
      recordsRejected: 0,
      stores: [
        {
          fingerprint: A,
          groups: [
            {
              group: 0,
              blocks: 5,
              changedMeanwhile: 0,
              bad: [
                { slot: 1, hash: `01${'00'.repeat(31)}`, code: 'ERR_KV_CHECKSUM' },
                { slot: 3, code: 'ERR_KV_IO' },
              ],
            },
          ],
        },
      ],
    })
  })

  it('shows fifty bad slots and counts the others', async () => {
    const bad = Object.fromEntries(Array.from({ length: 60 }, (_, slot) => [slot, CODE.ERR_KV_CHECKSUM]))
    const disk = fakeDisk([fakeSlab(blocks(60))], bad)
    const { stdout } = await run(['verify', storeFolder({ [A]: [0] })], { fake: disk.native })
    expect(stdout.match(/ERR_KV_CHECKSUM/g)).toHaveLength(50)
    expect(stdout).toContain('and 10 more; --json lists them all.')
  })

  it('looks again at a bad slot, and does not blame a block that was replaced meanwhile', async () => {
    const before = fakeSlab(blocks(4))
    const after = fakeSlab([{ slot: 0 }, { slot: 1, hash: 99 }, { slot: 2 }])
    const bad = { 1: CODE.ERR_KV_CHECKSUM, 2: CODE.ERR_KV_CHECKSUM, 3: CODE.ERR_KV_CHECKSUM }
    const disk = fakeDisk([before, after], bad)
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0] }), '--json'], { fake: disk.native })
    expect(exitCode).toBe(1)
    expect(JSON.parse(stdout).stores[0].groups[0]).toMatchObject({
      bad: [{ slot: 2, code: 'ERR_KV_CHECKSUM' }],
      changedMeanwhile: 2,
    })
    expect(disk.batches.at(-1)).toEqual([2])
    expect(disk.open.size).toBe(0)
  })

  it('counts records whose own hash is wrong as bad', async () => {
    const disk = fakeDisk([fakeSlab(blocks(1), { recordsRejected: 2 })])
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0] })], { fake: disk.native })
    expect(exitCode).toBe(1)
    expect(stdout).toContain('2 records whose own hash is wrong')
  })

  it('counts a table that is shorter than its superblock says as bad, and says how much of it there is', async () => {
    const disk = fakeDisk([{ ...fakeSlab(blocks(10)), slotsMissing: 40 }])
    const root = storeFolder({ [A]: [0] })
    const text = await run(['verify', root], { fake: disk.native })
    expect(text.exitCode).toBe(1)
    expect(text.stdout).toContain('1 table cut short.\n')
    expect(text.stdout).toContain('group 0: the table was cut: it has records for 60 of 100 slots')
    const json = await run(['verify', root, '--json'], { fake: disk.native })
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: false,
      blocks: 10,
      badBlocks: 0,
      tablesCut: 1,
      stores: [{ groups: [{ blocks: 10, slotsMissing: 40, bad: [] }] }],
    })
  })

  it('counts records that the disk cannot read as bad', async () => {
    const disk = fakeDisk([fakeSlab(blocks(10), { recordsUnreadable: 32 })])
    const root = storeFolder({ [A]: [0] })
    const { exitCode, stdout } = await run(['verify', root], { fake: disk.native })
    expect(exitCode).toBe(1)
    expect(stdout).toContain(': 32 records unreadable.\n')
    expect(stdout).toContain('group 0: the disk failed where 32 records are')
    const json = await run(['verify', root, '--json'], { fake: disk.native })
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, recordsUnreadable: 32 })
  })

  it('looks again at a table that seems cut: a manager may have changed its size meanwhile', async () => {
    const disk = fakeDisk([{ ...fakeSlab(blocks(10)), slotsMissing: 40 }, fakeSlab(blocks(10))])
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0] })], { fake: disk.native })
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('all good')])
    expect(disk.open.size).toBe(0)
  })

  it('checks the other groups and stores when one table cannot be read, with exit code 1', async () => {
    const disk = fakeDisk([fakeSlab(blocks(5))])
    const fake: Partial<CliNative> = {
      ...disk.native,
      inspectSlab: async (directory, group) => {
        if (directory.endsWith(A) && group === 0) throw new KvError('ERR_KV_NOT_A_STORE', 'no superblock')
        return await disk.native.inspectSlab!(directory, group)
      },
    }
    const root = storeFolder({ [A]: [0, 1], [B]: [0] })
    const json = await run(['verify', root, '--json'], { fake })
    expect([json.exitCode, json.stderr]).toEqual([1, ''])
    const result = JSON.parse(json.stdout)
    expect(result).toMatchObject({ ok: false, blocks: 10, badBlocks: 0, tablesUnread: 1 })
    expect(result.stores[0].groups).toMatchObject([
      { group: 0, error: { code: 'ERR_KV_NOT_A_STORE', message: 'no superblock' } },
      { group: 1, blocks: 5 },
    ])
    expect(result.stores[1].groups).toMatchObject([{ group: 0, blocks: 5 }])
    const text = await run(['verify', root], { fake })
    expect(text.exitCode).toBe(1)
    expect(text.stdout).toMatch(/^10 blocks .* in 2 stores checked in 0 ms: 1 table unread\.\n/)
    expect(text.stdout).toContain('store aaaaaaaa group 0: no superblock (ERR_KV_NOT_A_STORE)\n')
    expect(disk.open.size).toBe(0)
  })

  it('reports a table that fails while its blocks are checked, and closes it', async () => {
    const disk = fakeDisk([fakeSlab(blocks(5))])
    let checks = 0
    const fake: Partial<CliNative> = {
      ...disk.native,
      checkSlots: async (...args) => {
        if (++checks === 1) throw new KvError('ERR_KV_QUEUE_FULL', 'too much')
        return await disk.native.checkSlots!(...args)
      },
    }
    const ran = await run(['verify', storeFolder({ [A]: [0, 1] }), '--json'], { fake })
    expect(ran.exitCode).toBe(1)
    expect(JSON.parse(ran.stdout).stores[0].groups).toMatchObject([
      { group: 0, error: { code: 'ERR_KV_QUEUE_FULL' } },
      { group: 1, blocks: 5 },
    ])
    expect(disk.open.size).toBe(0)
  })

  it('fails with the code of a table when none can be read, and does not take a fault of its own for one', async () => {
    const failing = (error: unknown): Partial<CliNative> => ({ inspectSlab: () => Promise.reject(error) })
    const root = storeFolder({ [A]: [0], [B]: [0] })
    const none = await run(['verify', root], { fake: failing(new KvError('ERR_KV_IO', 'reading failed')) })
    expect(none).toEqual({ exitCode: 1, stdout: '', stderr: 'kvtier verify: reading failed (ERR_KV_IO)\n' })
    const own = await run(['verify', root], { fake: failing(new TypeError('x')) })
    expect([own.exitCode, own.stdout]).toEqual([1, ''])
    expect(own.stderr).toContain('ERR_KV_INTERNAL')
  })

  it('is content with an empty store', async () => {
    const disk = fakeDisk([fakeSlab([])])
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0, 1] })], { fake: disk.native })
    expect([exitCode, disk.batches]).toEqual([0, []])
    expect(stdout).toContain('0 blocks')
  })

  it('checks one store when it is named by the beginning of its fingerprint', async () => {
    const root = storeFolder({ [A]: [0], [B]: [0], [`ba${'0'.repeat(30)}`]: [0] })
    const fake = fakeDisk([fakeSlab(blocks(1))]).native
    const one = await run(['verify', root, '--store', 'A', '--json'], { fake })
    expect(JSON.parse(one.stdout).stores.map((store: { fingerprint: string }) => store.fingerprint)).toEqual([A])
    const whole = await run(['verify', root, '--store', B + B, '--json'], { fake })
    expect(JSON.parse(whole.stdout).stores).toHaveLength(1)
  })

  it.each([
    ['fits several', 'b', 2, 'ERR_KV_USAGE', 'fits 2 stores'],
    ['fits none', 'c', 1, 'ERR_KV_NOT_A_STORE', `there is ${A}`],
    ['is no hex number', '../x', 2, 'ERR_KV_USAGE', 'first hex digits'],
  ])('refuses a store that %s', async (_, prefix, exitCode, code, message) => {
    const root = storeFolder({ [A]: [0], [B]: [0], [`ba${'0'.repeat(30)}`]: [0] })
    const ran = await run(['verify', root, '--store', prefix])
    expect([ran.exitCode, ran.stdout]).toEqual([exitCode, ''])
    expect(ran.stderr).toContain(`(${code})`)
    expect(ran.stderr).toContain(message)
  })

  it('closes the slab and ends with 130 when it is interrupted', async () => {
    const controller = new AbortController()
    const disk = fakeDisk([fakeSlab(blocks(3000))])
    const fake: Partial<CliNative> = {
      ...disk.native,
      checkSlots: (...args) => {
        controller.abort(new KvError('ERR_KV_ABORTED', 'Interrupted.'))
        return disk.native.checkSlots!(...args)
      },
    }
    const { exitCode, stdout } = await run(['verify', storeFolder({ [A]: [0] })], { fake, signal: controller.signal })
    expect([exitCode, stdout, disk.batches.length, disk.open.size]).toEqual([130, '', 1, 0])
  })

  it('shows progress on a terminal only, and removes it before the result', async () => {
    const disk = fakeDisk([fakeSlab(blocks(2000))])
    const root = storeFolder({ [A]: [0] })
    const shown = await run(['verify', root], { fake: disk.native, isTty: true })
    expect(shown.stderr).toContain('checking aaaaaaaa group 0: 1,024 of 2,000, 51 %')
    expect(shown.stderr.endsWith('\r\u001b[2K')).toBe(true)
    expect((await run(['verify', root], { fake: disk.native })).stderr).toBe('')
  })
})
