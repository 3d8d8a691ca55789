/**
 * From sequence hash to entry: open addressing over one typed array, `[tag, entry + 1]` a bucket. The tag, a quarter of
 * the hash's first half, finds a candidate; all 256 bits, kept by entry, decide. Fixed capacity, at most half full;
 * removal shifts back, so there are no tombstones and a chain of blocks costs the same after years of churn.
 */
import { KvError } from '../errors.js'
import { HASH_WORDS } from '../native/sizes.js'

/** Blocks that a walk has in flight at once: their cache misses overlap instead of following each other. */
const WALK_GROUP = 32

/** Entries by the hash in their row. */
export class HashTable {
  readonly #buckets: Int32Array
  readonly #mask: number
  readonly #rows: Int32Array
  #size = 0
  /** Keeps the loads of a walk's first pass from being optimised away. */
  #touched = 0

  /**
   * @param capacity - entries at most
   * @param rows - {@link HASH_WORDS} words an entry; the owner writes a row before it inserts the entry
   */
  constructor(capacity: number, rows: Uint32Array) {
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(2, capacity * 2)))
    this.#buckets = new Int32Array(buckets * 2)
    this.#mask = buckets - 1
    this.#rows = new Int32Array(rows.buffer, rows.byteOffset, rows.length)
  }

  /** Entries in the table. */
  get size(): number {
    return this.#size
  }

  /** The entry of the hash at `hashes[index * 8 ...]`; -1 when there is none. */
  find(hashes: Uint32Array, index: number): number {
    const at = index * HASH_WORDS
    const tag = hashes[at]! | 0
    for (let bucket = tag & this.#mask; ; bucket = (bucket + 1) & this.#mask) {
      const value = this.#buckets[bucket * 2 + 1]!
      if (value === 0) return -1
      if (this.#buckets[bucket * 2] === tag && this.#hasHash(value - 1, hashes, at)) return value - 1
    }
  }

  /** Adds an entry whose hash is in its row and not in the table. */
  insert(entry: number): void {
    const tag = this.#rows[entry * HASH_WORDS]!
    let bucket = tag & this.#mask
    while (this.#buckets[bucket * 2 + 1] !== 0) bucket = (bucket + 1) & this.#mask
    this.#buckets[bucket * 2] = tag
    this.#buckets[bucket * 2 + 1] = entry + 1
    this.#size++
  }

  /** Takes an entry out; its row must still be there. */
  remove(entry: number): void {
    const buckets = this.#buckets
    const mask = this.#mask
    let hole = this.#rows[entry * HASH_WORDS]! & mask
    while (buckets[hole * 2 + 1] !== entry + 1) {
      if (buckets[hole * 2 + 1] === 0) throw new KvError('ERR_KV_INTERNAL', `Entry ${entry} is not in the hash table.`)
      hole = (hole + 1) & mask
    }
    // What follows moves back into the hole unless that would put it before its home bucket.
    for (let from = (hole + 1) & mask; buckets[from * 2 + 1] !== 0; from = (from + 1) & mask) {
      const home = buckets[from * 2]! & mask
      if (((from - home) & mask) < ((from - hole) & mask)) continue
      buckets[hole * 2] = buckets[from * 2]!
      buckets[hole * 2 + 1] = buckets[from * 2 + 1]!
      hole = from
    }
    buckets[hole * 2] = 0
    buckets[hole * 2 + 1] = 0
    this.#size--
  }

  /**
   * Finds the leading blocks of a request that are in the table and whose `counts` is not zero.
   *
   * @param entries - receives their entries; may be written further than the result says
   * @returns how many there are
   */
  walk(hashes: Uint32Array, count: number, entries: Int32Array, counts: Uint8Array): number {
    for (let from = 0; from < count; from += WALK_GROUP) {
      const end = from + WALK_GROUP < count ? from + WALK_GROUP : count
      this.prefetch(hashes, from, end)
      this.#candidates(hashes, from, end, entries)
      this.#load(from, end, entries, counts)
      for (let i = from; i < end; i++) {
        let entry = entries[i]!
        if (entry >= 0 && !this.#hasHash(entry, hashes, i * HASH_WORDS)) entry = this.find(hashes, i)
        if (entry < 0 || counts[entry] === 0) return i
        entries[i] = entry
      }
    }
    return count
  }

  /** Touches the home buckets of blocks `from` to `to`. */
  prefetch(hashes: Uint32Array, from: number, to: number): void {
    let touched = 0
    for (let i = from; i < to; i++) touched ^= this.#buckets[(hashes[i * HASH_WORDS]! & this.#mask) * 2]!
    this.#touched = touched
  }

  /** First pass: takes the first entry with a block's tag, or -1. */
  #candidates(hashes: Uint32Array, from: number, end: number, entries: Int32Array): void {
    const buckets = this.#buckets
    const mask = this.#mask
    for (let i = from; i < end; i++) {
      const tag = hashes[i * HASH_WORDS]! | 0
      let bucket = tag & mask
      while (buckets[bucket * 2] !== tag && buckets[bucket * 2 + 1] !== 0) bucket = (bucket + 1) & mask
      entries[i] = buckets[bucket * 2 + 1]! - 1
    }
  }

  /** Second pass: touches the candidates' rows. */
  #load(from: number, end: number, entries: Int32Array, counts: Uint8Array): void {
    let touched = this.#touched
    for (let i = from; i < end; i++) {
      const entry = entries[i]!
      if (entry >= 0) touched ^= this.#rows[entry * HASH_WORDS]! ^ counts[entry]!
    }
    this.#touched = touched
  }

  #hasHash(entry: number, hashes: Uint32Array, at: number): boolean {
    const rows = this.#rows
    const row = entry * HASH_WORDS
    const difference =
      (rows[row]! ^ hashes[at]!) |
      (rows[row + 1]! ^ hashes[at + 1]!) |
      (rows[row + 2]! ^ hashes[at + 2]!) |
      (rows[row + 3]! ^ hashes[at + 3]!) |
      (rows[row + 4]! ^ hashes[at + 4]!) |
      (rows[row + 5]! ^ hashes[at + 5]!) |
      (rows[row + 6]! ^ hashes[at + 6]!) |
      (rows[row + 7]! ^ hashes[at + 7]!)
    return difference === 0
  }
}
