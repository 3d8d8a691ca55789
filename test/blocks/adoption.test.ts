import { describe, expect, it } from 'vitest'

import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import type { SlabContents } from '../../lib/native/binding.js'
import { errorOf } from '../support/expect-code.js'

const DISK = 2

interface Row {
  readonly id: number
  readonly slot: number
  readonly parent: number
  readonly depth: number
  readonly lastUseS?: number
  readonly tenant?: number
}

function hashOf(id: number): number[] {
  return [Math.imul(id + 1, 0x9e3779b1), id, 0, 0, 0, 0, 0, 0]
}

function tableOf(rows: readonly Row[]): SlabContents {
  return {
    hashes: new Uint8Array(Uint32Array.from(rows.flatMap(({ id }) => hashOf(id))).buffer),
    slots: Uint32Array.from(rows, ({ slot }) => slot),
    parents: Int32Array.from(rows, ({ parent }) => parent),
    depths: Uint32Array.from(rows, ({ depth }) => depth),
    tenantTags: Uint32Array.from(rows, ({ tenant }) => tenant ?? 1),
    priorities: new Uint32Array(rows.length),
    expiresAtS: new Uint32Array(rows.length),
    lastUsesS: Uint32Array.from(rows, ({ lastUseS }) => lastUseS ?? 1),
    recordsRejected: 0,
    recordsSuperseded: 0,
    recordsOrphaned: 0,
    recordsUnreadable: 0,
  }
}

/** `count` sequences of `length` blocks, all first blocks before all second ones, each sequence in consecutive slots. */
function sequences(count: number, length: number, lastUseS: (sequence: number) => number = () => 1): Row[] {
  return Array.from({ length: count * length }, (_, row) => {
    const depth = Math.floor(row / count)
    const sequence = row % count
    const id = sequence * length + depth
    return { id, slot: id, parent: depth === 0 ? -1 : row - count, depth, lastUseS: lastUseS(sequence) }
  })
}

function makeGroup(slotCount: number, prefixClosed = true): GroupBlocks {
  return new GroupBlocks({ tiers: [{ slotCount: 0 }, { slotCount: 4 }, { slotCount }], policy: 'lru', prefixClosed })
}

function find(group: GroupBlocks, id: number): number {
  return group.find(Uint32Array.from(hashOf(id)), 0)
}

function evictAll(group: GroupBlocks): number[] {
  const slots: number[] = []
  for (let victim = group.victim(DISK); victim >= 0; victim = group.victim(DISK)) {
    slots.push(group.slotOf(victim, DISK))
    expect(group.evict(victim, DISK)).toBe(true)
  }
  return slots
}

describe('adopting a recovered table', () => {
  it('makes every record a held block in its slot, whatever the slices', () => {
    const rows = sequences(5, 40)
    for (const slice of [1, 7, 64, 200]) {
      const group = makeGroup(200)
      const contents = tableOf(rows)
      let adopted = 0
      for (let from = 0; from < rows.length; from += slice) {
        adopted += group.adopt(contents, from, Math.min(from + slice, rows.length), DISK)
      }
      group.check()
      expect(adopted).toBe(200)
      expect(group.counts(DISK)).toEqual({ slots: 200, free: 0, filling: 0, pinned: 0, evictable: 200, held: 200 })
      for (const { id, slot } of rows) expect(group.slotOf(find(group, id), DISK)).toBe(slot)
      const path = Uint32Array.from(Array.from({ length: 40 }, (_, depth) => hashOf(40 + depth)).flat())
      expect(group.walk(path, 40, new Int32Array(40), 0)).toBe(40)
    }
  })

  it('gives a sequence consecutive entries, wherever its slots lie', () => {
    const rows = Array.from({ length: 150 }, (_, id) => {
      const depth = id % 50
      return { id, slot: (id * 77) % 150, parent: depth === 0 ? -1 : id - 1, depth }
    })
    const group = makeGroup(150)
    group.adopt(tableOf(rows), 0, rows.length, DISK)
    const entries = Array.from({ length: 50 }, (_, depth) => find(group, 50 + depth))
    expect(entries.every((entry, i) => i === 0 || entry === entries[i - 1]! + 1)).toBe(true)
    expect(rows.every(({ id, slot }) => group.slotOf(find(group, id), DISK) === slot)).toBe(true)
  })

  it('orders blocks by last use, the deeper one of a sequence first, and before anything used since', () => {
    const rows = sequences(3, 2, (sequence) => [4_000_000_000, 5, 70][sequence]!)
    const group = makeGroup(8)
    group.adopt(tableOf(rows), 0, rows.length, DISK)
    const hash = Uint32Array.from(hashOf(99))
    const live = group.begin(hash, 0, -1, { depth: 0, priority: 0, expiresAtS: 0, tenant: 1 })
    group.assign(live, DISK, group.takeFree(DISK))
    group.publish(live, DISK)
    expect(evictAll(group)).toEqual([3, 2, 5, 4, 1, 0, 6])
  })

  it('leaves out a row whose slot is taken, and everything behind it', () => {
    const group = makeGroup(6)
    expect(group.takeFree(DISK)).toBe(0)
    expect(group.takeFree(DISK)).toBe(1)
    group.giveBack(DISK, 0)
    const rows = sequences(2, 3)
    expect(group.adopt(tableOf(rows), 0, rows.length, DISK)).toBe(4)
    group.check()
    expect([0, 1, 2, 3, 4, 5].map((id) => find(group, id) >= 0)).toEqual([true, false, false, true, true, true])
    expect(evictAll(group)).toEqual([5, 4, 3, 0])
  })

  it('joins a block that another tier holds already', () => {
    const group = makeGroup(6)
    const hash = Uint32Array.from(hashOf(0))
    const entry = group.begin(hash, 0, -1, { depth: 0, priority: 0, expiresAtS: 0, tenant: 1 })
    group.assign(entry, 1, group.takeFree(1))
    group.publish(entry, 1)
    const rows = sequences(2, 3)
    expect(group.adopt(tableOf(rows), 0, rows.length, DISK)).toBe(6)
    expect(find(group, 0)).toBe(entry)
    expect([group.holds(entry, 1), group.holds(entry, DISK)]).toEqual([true, true])
    group.check()
  })

  it('leaves out what was behind a block that was lost between two slices, even when its entry is another block now', () => {
    const rows = sequences(1, 4)
    const group = new GroupBlocks({
      tiers: [{ slotCount: 0 }, { slotCount: 1 }, { slotCount: 4 }],
      policy: 'lru',
      prefixClosed: true,
      entries: 4,
    })
    const contents = tableOf(rows)
    group.adopt(contents, 0, 2, DISK)
    const lost = find(group, 1)
    group.drop(lost)
    // Takes all other entries, so that the lost one's number is among them.
    const others = [50, 51, 52].map((id) => {
      const hash = Uint32Array.from(hashOf(id))
      return group.begin(hash, 0, -1, { depth: 0, priority: 0, expiresAtS: 0, tenant: 1 })
    })
    expect(others).toContain(lost)
    for (const other of others) {
      if (other === lost) {
        group.assign(other, 1, group.takeFree(1))
        group.publish(other, 1)
      } else group.forget(other)
    }
    expect(group.adopt(contents, 2, 4, DISK)).toBe(0)
    group.check()
    expect(evictAll(group)).toEqual([0])
  })

  it('takes the first of two rows with one slot, or of one block', () => {
    const rows: Row[] = [
      { id: 0, slot: 3, parent: -1, depth: 0 },
      { id: 1, slot: 3, parent: -1, depth: 0 },
      { id: 0, slot: 4, parent: -1, depth: 0 },
      { id: 2, slot: 5, parent: 1, depth: 1 },
      { id: 3, slot: 6, parent: 2, depth: 1 },
    ]
    const group = makeGroup(8)
    expect(group.adopt(tableOf(rows), 0, rows.length, DISK)).toBe(2)
    group.check()
    expect([0, 1, 2, 3].map((id) => find(group, id) >= 0)).toEqual([true, false, false, true])
    expect(evictAll(group)).toEqual([6, 3])
  })

  it('keeps blocks without parents in a group that needs none', () => {
    const group = makeGroup(8, false)
    const rows: Row[] = [
      { id: 5, slot: 3, parent: -1, depth: 5 },
      { id: 6, slot: 4, parent: 0, depth: 6 },
    ]
    expect(group.adopt(tableOf(rows), 0, 2, DISK)).toBe(2)
    group.check()
    expect(group.holds(find(group, 5), DISK)).toBe(true)
    expect(group.depthOf(find(group, 6))).toBe(6)
  })

  it('counts slots for the tenants of the records', () => {
    const rows = sequences(2, 2).map((row) => ({ ...row, tenant: row.id < 2 ? 11 : 22 }))
    const group = makeGroup(8)
    group.setQuota(11, DISK, 2)
    group.adopt(tableOf(rows), 0, rows.length, DISK)
    expect([group.usedBy(11, DISK), group.usedBy(22, DISK), group.isOverQuota(11, DISK)]).toEqual([2, 2, true])
    expect(group.slotOf(group.victim(DISK, 11), DISK)).toBe(1)
    group.check()
  })

  it('refuses slices that do not follow each other, and misaligned tables', () => {
    const contents = tableOf(sequences(1, 4))
    const group = makeGroup(8)
    errorOf('ERR_KV_INTERNAL', () => group.adopt(contents, 1, 2, DISK))
    group.adopt(contents, 0, 2, DISK)
    errorOf('ERR_KV_INTERNAL', () => group.adopt(contents, 3, 4, DISK))
    errorOf('ERR_KV_INTERNAL', () => group.adopt(contents, 2, 4, 1))
    errorOf('ERR_KV_INTERNAL', () => group.adopt(contents, 2, 5, DISK))
    expect(group.adopt(contents, 2, 4, DISK)).toBe(2)
    errorOf('ERR_KV_INTERNAL', () => group.adopt({ ...contents, hashes: new Uint8Array(33) }, 0, 1, DISK))
  })

  it('reads hashes that do not begin at a multiple of four bytes', () => {
    const contents = tableOf(sequences(1, 3))
    const shifted = new Uint8Array(contents.hashes.length + 1)
    shifted.set(contents.hashes, 1)
    const group = makeGroup(8)
    expect(group.adopt({ ...contents, hashes: shifted.subarray(1) }, 0, 3, DISK)).toBe(3)
    expect(find(group, 2)).toBeGreaterThanOrEqual(0)
  })
})
