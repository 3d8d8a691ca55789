/**
 * Which blocks there are: a row of typed arrays an entry, found by sequence hash, linked as a tree (parent, children).
 * Which tiers hold a block is in `tier-blocks.ts`; here is only in how many it is published. In the arrays of links 0
 * means none and entries count from 1, so that fresh memory needs no filling.
 */
import { HASH_WORDS } from '../native/sizes.js'
import { SlotHeap } from '../policy/eviction/slot-heap.js'
import { FreeSlots } from './free-slots.js'
import { HashTable } from './hash-table.js'
import { misuse } from './misuse.js'

/** What the registry knows of a block lies in one row of words: one or two cache lines, whatever is asked. */
const ROW = 8
/** Links: entry + 1, or 0. */
const PARENT = 0
const FIRST_CHILD = 1
const NEXT = 2
const PREVIOUS = 3
const CHILDREN = 4
const DEPTH = 5
const TENANT = 6
const PRIORITY = 7

const UNUSED = 0
const LIVE = 1
/** Not found any more; stays an entry until its last pinned, filling or leaving slot is given up. */
const LOST = 2

/** All entries of one layer group. Fixed capacity; allocates in its constructor and with the first expiry only. */
export class BlockRegistry {
  readonly capacity: number
  readonly hashes: Uint32Array
  /** What is filling the entry now; 0 = nothing. Kept for movement. */
  readonly pending: Float64Array
  /** Tiers in which the block is published. */
  readonly copies: Uint8Array
  readonly #rows: Uint32Array
  readonly #expiries: Uint32Array
  readonly #states: Uint8Array
  readonly #free: FreeSlots
  readonly #table: HashTable
  #expiring: SlotHeap | null = null
  #losses = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.hashes = new Uint32Array(capacity * HASH_WORDS)
    this.pending = new Float64Array(capacity)
    this.copies = new Uint8Array(capacity)
    this.#rows = new Uint32Array(capacity * ROW)
    this.#expiries = new Uint32Array(capacity)
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
    const expiresAtS = this.#expiries[entry]!
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
    return this.#rows[entry * ROW + PARENT]! - 1
  }

  /** -1 when there is none. */
  firstChildOf(entry: number): number {
    return this.#rows[entry * ROW + FIRST_CHILD]! - 1
  }

  /** -1 when there is none. */
  nextSiblingOf(entry: number): number {
    return this.#rows[entry * ROW + NEXT]! - 1
  }

  childCountOf(entry: number): number {
    return this.#rows[entry * ROW + CHILDREN]!
  }

  /** Blocks before this one. */
  depthOf(entry: number): number {
    return this.#rows[entry * ROW + DEPTH]!
  }

  /** Number in the tenant table. */
  tenantOf(entry: number): number {
    return this.#rows[entry * ROW + TENANT]!
  }

  priorityOf(entry: number): number {
    return this.#rows[entry * ROW + PRIORITY]!
  }

  setPriority(entry: number, priority: number): void {
    this.#rows[entry * ROW + PRIORITY] = priority
  }

  /** Unix seconds; 0 = never. */
  expiryOf(entry: number): number {
    return this.#expiries[entry]!
  }

  /**
   * Makes an entry for a hash that has none; `describe` it next. Numbers follow each other while they are free, so that
   * a sequence's entries lie together, wherever its slots are.
   *
   * @throws KvError `ERR_KV_INTERNAL` when all entries are in use
   */
  create(hashes: Uint32Array, index: number): number {
    const entry = this.#free.take()
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

  /**
   * Says what a new entry is.
   *
   * @param parent - entry of the block before; -1 = it is nobody's child
   * @param expiresAtS - Unix seconds; 0 = never
   */
  describe(entry: number, parent: number, tenant: number, depth: number, priority: number, expiresAtS: number): void {
    const row = entry * ROW
    this.#rows[row + DEPTH] = depth
    this.#rows[row + TENANT] = tenant
    this.#rows[row + PRIORITY] = priority
    if (parent >= 0) this.#link(entry, parent)
    if (expiresAtS !== 0) this.setExpiry(entry, expiresAtS)
  }

  /** Loads the home buckets of blocks `from` to `to`, so that finding or making them next does not wait for memory. */
  prefetch(hashes: Uint32Array, from: number, to: number): void {
    this.#table.prefetch(hashes, from, to)
  }

  /** Gives an entry another expiry; 0 = never. */
  setExpiry(entry: number, expiresAtS: number): void {
    if (this.#expiries[entry] !== 0) this.#expiring?.remove(entry)
    this.#expiries[entry] = expiresAtS
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
    const children = this.childCountOf(entry)
    if (children !== 0) misuse(`Entry ${entry} was to be lost; it has ${children} children.`)
    this.#table.remove(entry)
    if (this.#expiries[entry] !== 0) this.#expiring?.remove(entry)
    this.#unlink(entry)
    this.#states[entry] = LOST
    this.#losses++
    this.copies[entry] = 0
  }

  /** A lost entry's number may be used again. */
  release(entry: number): void {
    if (this.#states[entry] !== LOST) misuse(`Entry ${entry} was to be released; it is not lost.`)
    this.#states[entry] = UNUSED
    this.#expiries[entry] = 0
    this.pending[entry] = 0
    this.#free.release(entry)
  }

  #link(entry: number, parent: number): void {
    const rows = this.#rows
    const row = entry * ROW
    const parentRow = parent * ROW
    const next = rows[parentRow + FIRST_CHILD]!
    rows[row + PARENT] = parent + 1
    rows[row + NEXT] = next
    if (next !== 0) rows[(next - 1) * ROW + PREVIOUS] = entry + 1
    rows[parentRow + FIRST_CHILD] = entry + 1
    rows[parentRow + CHILDREN]!++
  }

  #unlink(entry: number): void {
    const rows = this.#rows
    const row = entry * ROW
    const parent = rows[row + PARENT]!
    if (parent === 0) return
    const parentRow = (parent - 1) * ROW
    const next = rows[row + NEXT]!
    const previous = rows[row + PREVIOUS]!
    if (previous === 0) rows[parentRow + FIRST_CHILD] = next
    else rows[(previous - 1) * ROW + NEXT] = next
    if (next !== 0) rows[(next - 1) * ROW + PREVIOUS] = previous
    rows[parentRow + CHILDREN]!--
    rows[row + PARENT] = 0
    rows[row + NEXT] = 0
    rows[row + PREVIOUS] = 0
  }

  /** Of blocks that expire together the first of a sequence is dropped first, and takes the others with it. */
  #dropsBefore(a: number, b: number): boolean {
    const depths = this.depthOf(a) - this.depthOf(b)
    return depths !== 0 ? depths < 0 : a < b
  }
}
