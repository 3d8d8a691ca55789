/**
 * Which blocks there are: a row of typed arrays an entry, found by sequence hash, linked as a tree (parent, children).
 * Which tiers hold a block is in `tier-blocks.ts`; here is only in how many it is published. In the arrays of links 0
 * means none and entries count from 1, so that fresh memory needs no filling.
 */
import { SlotHeap } from '../policy/eviction/slot-heap.js'
import { FreeSlots } from './free-slots.js'
import { HASH_WORDS, HashTable } from './hash-table.js'
import { misuse } from './misuse.js'

const UNUSED = 0
const LIVE = 1
/** Not found any more; stays an entry until its last pinned, filling or leaving slot is given up. */
const LOST = 2

/** What an entry is made with. */
export interface EntryFacts {
  /** Blocks before this one. */
  readonly depth: number
  /** Larger stays longer. */
  readonly priority: number
  /** Unix seconds; 0 = never. */
  readonly expiresAtS: number
}

/** All entries of one layer group. Fixed capacity; allocates in its constructor and with the first expiry only. */
export class BlockRegistry {
  readonly capacity: number
  readonly hashes: Uint32Array
  readonly depths: Uint32Array
  readonly priorities: Uint32Array
  readonly expiries: Uint32Array
  /** Number in the tenant table. */
  readonly tenants: Uint32Array
  /** What is filling the entry now; 0 = nothing. Kept for movement. */
  readonly pending: Float64Array
  /** Tiers in which the block is published. */
  readonly copies: Uint8Array
  readonly childCounts: Uint32Array
  readonly #parents: Int32Array
  readonly #firstChildren: Int32Array
  readonly #nextSiblings: Int32Array
  readonly #previousSiblings: Int32Array
  readonly #states: Uint8Array
  readonly #free: FreeSlots
  readonly #table: HashTable
  #expiring: SlotHeap | null = null
  #losses = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.hashes = new Uint32Array(capacity * HASH_WORDS)
    this.depths = new Uint32Array(capacity)
    this.priorities = new Uint32Array(capacity)
    this.expiries = new Uint32Array(capacity)
    this.tenants = new Uint32Array(capacity)
    this.pending = new Float64Array(capacity)
    this.copies = new Uint8Array(capacity)
    this.childCounts = new Uint32Array(capacity)
    this.#parents = new Int32Array(capacity)
    this.#firstChildren = new Int32Array(capacity)
    this.#nextSiblings = new Int32Array(capacity)
    this.#previousSiblings = new Int32Array(capacity)
    this.#states = new Uint8Array(capacity)
    this.#free = new FreeSlots(capacity)
    this.#table = new HashTable(capacity, this.hashes)
  }

  /** Blocks lost so far: while it stays the same, no entry's number has passed to another block. */
  get losses(): number {
    return this.#losses
  }

  /** Entries in use, lost ones included. */
  get count(): number {
    return this.capacity - this.#free.count
  }

  /** Entries that can be found. */
  get liveCount(): number {
    return this.#table.size
  }

  /** The entry of a hash, published or not; -1 when there is none. */
  find(hashes: Uint32Array, index: number): number {
    return this.#table.find(hashes, index)
  }

  /** How many leading blocks are published in at least one tier and not expired; their entries go to `entries`. */
  walk(hashes: Uint32Array, count: number, entries: Int32Array, nowS: number): number {
    const length = this.#table.walk(hashes, count, entries, this.copies)
    if (this.#expiring === null || this.#expiring.topFirst > nowS) return length
    for (let i = 0; i < length; i++) if (this.isExpired(entries[i]!, nowS)) return i
    return length
  }

  isExpired(entry: number, nowS: number): boolean {
    const expiresAtS = this.expiries[entry]!
    return expiresAtS !== 0 && expiresAtS <= nowS
  }

  isLive(entry: number): boolean {
    return this.#states[entry] === LIVE
  }

  isLost(entry: number): boolean {
    return this.#states[entry] === LOST
  }

  /** -1 for a sequence's first block, and for every block of a group without parents. */
  parentOf(entry: number): number {
    return this.#parents[entry]! - 1
  }

  /** -1 when there is none. */
  firstChildOf(entry: number): number {
    return this.#firstChildren[entry]! - 1
  }

  /** -1 when there is none. */
  nextSiblingOf(entry: number): number {
    return this.#nextSiblings[entry]! - 1
  }

  /**
   * Makes an entry for a hash that has none; `describe` it next.
   *
   * @param near - number that the entry should be close to, so that a sequence's entries lie together; -1 = after the last
   * @throws KvError `ERR_KV_INTERNAL` when all entries are in use
   */
  create(hashes: Uint32Array, index: number, near: number): number {
    const entry = near < 0 ? this.#free.take() : this.#free.takeFrom(near)
    if (entry < 0) misuse(`An entry was to be made; all ${this.capacity} are in use.`)
    const rows = this.hashes
    const to = entry * HASH_WORDS
    const from = index * HASH_WORDS
    rows[to] = hashes[from]!
    rows[to + 1] = hashes[from + 1]!
    rows[to + 2] = hashes[from + 2]!
    rows[to + 3] = hashes[from + 3]!
    rows[to + 4] = hashes[from + 4]!
    rows[to + 5] = hashes[from + 5]!
    rows[to + 6] = hashes[from + 6]!
    rows[to + 7] = hashes[from + 7]!
    this.#table.insert(entry)
    this.#states[entry] = LIVE
    return entry
  }

  /** Says what a new entry is: whose child (-1 = nobody's), which tenant's, and how it is to be kept. */
  describe(entry: number, parent: number, tenant: number, facts: EntryFacts): void {
    this.depths[entry] = facts.depth
    if (parent >= 0) this.#link(entry, parent)
    // Fresh memory is zero and released entries are zeroed: what is zero is not written, nor its page touched.
    if (tenant !== 0) this.tenants[entry] = tenant
    if (facts.priority !== 0) this.priorities[entry] = facts.priority
    if (facts.expiresAtS !== 0) this.setExpiry(entry, facts.expiresAtS)
  }

  /** Loads the home buckets of blocks `from` to `to`, so that finding or making them next does not wait for memory. */
  prefetch(hashes: Uint32Array, from: number, to: number): void {
    this.#table.prefetch(hashes, from, to)
  }

  /** Gives an entry another expiry; 0 = never. */
  setExpiry(entry: number, expiresAtS: number): void {
    if (this.expiries[entry] !== 0) this.#expiring?.remove(entry)
    this.expiries[entry] = expiresAtS
    if (expiresAtS === 0) return
    this.#expiring ??= new SlotHeap(new Int32Array(this.capacity), (a, b) => this.#dropsBefore(a, b))
    this.#expiring.push(entry, expiresAtS, 0)
  }

  /** The live entry that expired first; -1 when none has. */
  firstExpired(nowS: number): number {
    return this.#expiring !== null && this.#expiring.topFirst <= nowS ? this.#expiring.top : -1
  }

  /** The block cannot be found any more and is no child. It must have no children itself. */
  lose(entry: number): void {
    if (this.childCounts[entry] !== 0)
      misuse(`Entry ${entry} was to be lost; it has ${this.childCounts[entry]} children.`)
    this.#table.remove(entry)
    if (this.expiries[entry] !== 0) this.#expiring?.remove(entry)
    this.#unlink(entry)
    this.#states[entry] = LOST
    this.#losses++
    this.copies[entry] = 0
  }

  /** A lost entry's number may be used again. */
  release(entry: number): void {
    if (this.#states[entry] !== LOST) misuse(`Entry ${entry} was to be released; it is not lost.`)
    this.#states[entry] = UNUSED
    this.tenants[entry] = 0
    this.priorities[entry] = 0
    this.expiries[entry] = 0
    this.pending[entry] = 0
    this.#free.release(entry)
  }

  #link(entry: number, parent: number): void {
    const next = this.#firstChildren[parent]!
    this.#parents[entry] = parent + 1
    this.#nextSiblings[entry] = next
    if (next !== 0) this.#previousSiblings[next - 1] = entry + 1
    this.#firstChildren[parent] = entry + 1
    this.childCounts[parent]!++
  }

  #unlink(entry: number): void {
    const parent = this.#parents[entry]!
    if (parent === 0) return
    const next = this.#nextSiblings[entry]!
    const previous = this.#previousSiblings[entry]!
    if (previous === 0) this.#firstChildren[parent - 1] = next
    else this.#nextSiblings[previous - 1] = next
    if (next !== 0) this.#previousSiblings[next - 1] = previous
    this.childCounts[parent - 1]!--
    this.#parents[entry] = 0
    this.#nextSiblings[entry] = 0
    this.#previousSiblings[entry] = 0
  }

  /** Of blocks that expire together the first of a sequence is dropped first, and takes the others with it. */
  #dropsBefore(a: number, b: number): boolean {
    const depths = this.depths[a]! - this.depths[b]!
    return depths !== 0 ? depths < 0 : a < b
  }
}
