import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { HashTable } from '../../lib/blocks/hash-table.js'
import { HASH_WORDS } from '../../lib/native/sizes.js'
import { errorOf } from '../support/expect-code.js'

const CAPACITY = 24

/** Hashes that differ in one word only; most share their first word, or pile up at the end of the table. */
function hashOf(id: number): number[] {
  const first = id % 4 === 3 ? id : [0, 0xffffffff, 63][id % 3]!
  return [first, 0, 0, 0, 0, 0, 0, 0].map((word, i) => (i === 1 + (id % 7) ? id + 1 : word))
}

function pack(ids: readonly number[]): Uint32Array {
  return Uint32Array.from(ids.flatMap(hashOf))
}

function makeTable(): { table: HashTable; add: (entry: number, id: number) => void } {
  const rows = new Uint32Array(CAPACITY * HASH_WORDS)
  const table = new HashTable(CAPACITY, rows)
  const add = (entry: number, id: number): void => {
    rows.set(hashOf(id), entry * HASH_WORDS)
    table.insert(entry)
  }
  return { table, add }
}

describe('the hash table', () => {
  it('finds exactly what is in it, whatever the tags', () => {
    const steps = fc.array(fc.nat({ max: 39 }), { maxLength: 200 })
    fc.assert(
      fc.property(steps, (sequence) => {
        const { table, add } = makeTable()
        const entries = new Map<number, number>()
        const unused = Array.from({ length: CAPACITY }, (_, entry) => entry)
        const all = Array.from({ length: 40 }, (_, id) => id)
        const hashes = pack(all)
        for (const id of sequence) {
          const entry = entries.get(id)
          if (entry !== undefined) {
            table.remove(entry)
            entries.delete(id)
            unused.push(entry)
          } else if (unused.length > 0) {
            const made = unused.pop()!
            add(made, id)
            entries.set(id, made)
          }
          expect(table.size).toBe(entries.size)
          expect(all.map((each) => table.find(hashes, each))).toEqual(all.map((each) => entries.get(each) ?? -1))
        }
      }),
    )
  })

  it('walks as far as blocks are there and counted', () => {
    const ids = Array.from({ length: 40 }, (_, id) => id)
    const present = fc.subarray(ids, { maxLength: CAPACITY })
    fc.assert(
      fc.property(present, fc.shuffledSubarray(ids), fc.nat({ max: CAPACITY }), (inTable, request, uncounted) => {
        const { table, add } = makeTable()
        for (const [entry, id] of inTable.entries()) add(entry, id)
        const counts = new Uint8Array(CAPACITY).fill(1)
        if (uncounted < CAPACITY) counts[uncounted] = 0
        const entries = new Int32Array(request.length)
        const expected = request.map((id) => inTable.indexOf(id))
        const end = expected.findIndex((entry) => entry < 0 || entry === uncounted)
        const length = end < 0 ? request.length : end
        expect(table.walk(pack(request), request.length, entries, counts)).toBe(length)
        expect([...entries.subarray(0, length)]).toEqual(expected.slice(0, length))
      }),
    )
  })

  it('tells hashes apart that differ in any one bit', () => {
    const rows = new Uint32Array(2 * HASH_WORDS)
    rows.set([1, 2, 3, 4, 5, 6, 7, 8])
    const table = new HashTable(2, rows)
    table.insert(0)
    for (let bit = 0; bit < 256; bit++) {
      const other = Uint32Array.from(rows.subarray(0, HASH_WORDS))
      other[bit >> 5]! ^= 1 << (bit & 31)
      expect(table.find(other, 0)).toBe(-1)
      expect(table.walk(other, 1, new Int32Array(1), new Uint8Array([1, 1]))).toBe(0)
    }
    expect(table.find(rows, 0)).toBe(0)
  })

  it('refuses to remove an entry that is not in it', () => {
    const { table } = makeTable()
    expect(errorOf('ERR_KV_INTERNAL', () => table.remove(3)).message).toContain('Entry 3')
  })
})
