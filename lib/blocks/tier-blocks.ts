/**
 * One tier of a layer group: which slot holds which entry, and which of its blocks may leave. A published block is
 * *ranked* (it has its place in the order of eviction) or *leaving* (`victim` handed it out, and it is out of the order
 * until it is evicted or stays).
 */
import { LeafQueue, NOWHERE, PARKED, READY, type SlotFacts, type Standing } from '../policy/eviction/leaf-queue.js'
import { BlockPool } from './block-pool.js'
import type { BlockRegistry } from './block-registry.js'
import { misuse } from './misuse.js'
import type { TenantTable } from './tenant-table.js'

const RANKED = 1
const LEAVING = 2

/** The slots of one tier and their order. */
export class TierBlocks implements SlotFacts {
  readonly number: number
  readonly pool: BlockPool
  readonly queue: LeafQueue
  /** Published blocks that can be found. */
  held = 0
  /** Ranked blocks whose parent is not ranked here: while there are none, every path is ranked from its first block on. */
  holes = 0
  /** Slots handed out as victims and not evicted yet. */
  leaving = 0
  /** Two words an entry: its slot here + 1 (0 = none), and how many of its children are ranked here. */
  readonly #rows: Int32Array
  readonly #marks: Uint8Array
  readonly #registry: BlockRegistry
  readonly #tenants: TenantTable
  readonly #prefixClosed: boolean
  #others: readonly TierBlocks[] = []

  /** @throws KvError `ERR_KV_UNKNOWN_POLICY` */
  constructor(
    number: number,
    slotCount: number,
    policy: string,
    registry: BlockRegistry,
    tenants: TenantTable,
    prefixClosed: boolean,
  ) {
    this.number = number
    this.pool = new BlockPool(number, slotCount)
    this.queue = new LeafQueue(slotCount, policy, this)
    this.#rows = new Int32Array(registry.capacity * 2)
    this.#marks = new Uint8Array(slotCount)
    this.#registry = registry
    this.#tenants = tenants
    this.#prefixClosed = prefixClosed
  }

  /** Names the group's other tiers; once, before anything else. */
  setOthers(others: readonly TierBlocks[]): void {
    this.#others = others
  }

  priorityAt(slot: number): number {
    return this.#registry.priorityOf(this.pool.ownerOf(slot))
  }

  expiresAtS(slot: number): number {
    return this.#registry.expiryOf(this.pool.ownerOf(slot))
  }

  depthAt(slot: number): number {
    return this.#registry.depthOf(this.pool.ownerOf(slot))
  }

  partitionAt(slot: number): number {
    return this.#tenants.partitionOf(this.#registry.tenantOf(this.pool.ownerOf(slot)), this.number)
  }

  /** The slot that an entry has here, filling or published; -1 when none. */
  slotOf(entry: number): number {
    return (this.#rows[entry * 2] ?? 0) - 1
  }

  /** The entry's published slot here; -1 when it has none or is lost. */
  heldSlotOf(entry: number): number {
    const slot = this.slotOf(entry)
    return slot >= 0 && this.pool.isPublished(slot) && this.#registry.isLive(entry) ? slot : -1
  }

  /** The slot that an operation needs the entry to have here. */
  expectSlot(entry: number, asked: string): number {
    const slot = this.slotOf(entry)
    return slot >= 0 ? slot : misuse(`Entry ${entry} was to be ${asked} in tier ${this.number}; it has no slot there.`)
  }

  isRanked(slot: number): boolean {
    return this.#marks[slot] === RANKED
  }

  isLeaving(slot: number): boolean {
    return this.#marks[slot] === LEAVING
  }

  rankedChildrenOf(entry: number): number {
    return this.#rows[entry * 2 + 1]!
  }

  /** Gives a taken slot to an entry that has none here. */
  assign(entry: number, slot: number): void {
    if (this.slotOf(entry) >= 0) {
      misuse(
        `Slot ${slot} of tier ${this.number} was to be assigned to entry ${entry}, which has slot ${this.slotOf(entry)}.`,
      )
    }
    this.pool.assign(slot, entry)
    this.#rows[entry * 2] = slot + 1
    this.#tenants.addUse(this.#registry.tenantOf(entry), this.number, 1)
  }

  /**
   * Gives a free slot to an entry that has none here, published; `rank` and `refresh` follow. The tenant's use is the
   * caller's to count.
   *
   * @param lastUse - tick, below that of everything used since
   */
  adopt(entry: number, slot: number, lastUse: number): void {
    if (!this.pool.adopt(slot, entry)) misuse(`Slot ${slot} of tier ${this.number} was to be adopted; it is not free.`)
    this.#rows[entry * 2] = slot + 1
    this.held++
    this.queue.insert(slot, lastUse)
  }

  /** Takes the slot from the entry; it stays filling and is the caller's, or with `free` goes back to the pool. */
  takeBack(entry: number, slot: number, free: boolean): void {
    this.#rows[entry * 2] = 0
    this.#tenants.addUse(this.#registry.tenantOf(entry), this.number, -1)
    if (free) this.pool.release(slot)
    else this.pool.unassign(slot)
  }

  /**
   * A published block that is not ranked gets its place in the order; `refresh` it afterwards.
   *
   * @returns whether it is a hole: it has a parent, which is not ranked here
   */
  rank(entry: number, slot: number): boolean {
    this.#marks[slot] = RANKED
    if (!this.#prefixClosed) return false
    this.holes -= this.#rows[entry * 2 + 1]!
    const parent = this.#registry.parentOf(entry)
    if (parent < 0) return false
    this.#rows[parent * 2 + 1]!++
    const parentSlot = this.slotOf(parent)
    if (parentSlot >= 0 && this.isRanked(parentSlot)) {
      this.queue.place(parentSlot, NOWHERE)
      return false
    }
    this.holes++
    return true
  }

  /** A ranked block gives up its place; its uses are its parent's now. */
  unrank(entry: number, slot: number): void {
    this.queue.place(slot, NOWHERE)
    this.#marks[slot] = 0
    if (!this.#prefixClosed) return
    this.holes += this.#rows[entry * 2 + 1]!
    const parent = this.#registry.parentOf(entry)
    if (parent < 0) return
    this.#rows[parent * 2 + 1]!--
    const parentSlot = this.slotOf(parent)
    if (parentSlot < 0 || !this.isRanked(parentSlot)) {
      this.holes--
      return
    }
    this.queue.inherit(parentSlot, slot)
    this.refresh(parent)
  }

  /** Marks a block that gave up its place as handed out. */
  startLeaving(slot: number): void {
    this.#marks[slot] = LEAVING
    this.leaving++
  }

  /** It was evicted, or stays. */
  endLeaving(slot: number): void {
    this.#marks[slot] = 0
    this.leaving--
  }

  /** Puts the entry's block where it belongs in the queue; after anything that bears on whether it may leave. */
  refresh(entry: number): void {
    const slot = this.slotOf(entry)
    if (slot >= 0 && this.isRanked(slot)) this.queue.place(slot, this.#standing(entry, slot))
  }

  /** A request used these blocks, a path from its first block on (any blocks where the group has no parents). */
  touch(entries: Int32Array, count: number, tick: number): void {
    if (this.held === 0 || count === 0) return
    // With holes, a block in the middle of the path may be the last of a run: each block is told itself.
    const each = !this.#prefixClosed || this.holes > 0
    const ranked = each ? 0 : this.#rankedLength(entries, count)
    if (ranked > 0) this.queue.touch(this.slotOf(entries[ranked - 1]!), tick, true)
    if (each || this.leaving > 0) this.#touchEach(entries, ranked, count, tick)
  }

  /** Where a ranked block belongs. */
  #standing(entry: number, slot: number): Standing {
    if (this.pool.pinsOf(slot) > 0) return NOWHERE
    if (!this.#prefixClosed) return READY
    if (this.#rows[entry * 2 + 1] !== 0) return NOWHERE
    return this.#registry.childCountOf(entry) === 0 || this.#isHeldElsewhere(entry) ? READY : PARKED
  }

  /** A copy that is leaving counts: it stays where this one turns out to be needed. */
  #isHeldElsewhere(entry: number): boolean {
    for (const other of this.#others) if (other.heldSlotOf(entry) >= 0) return true
    return false
  }

  #touchEach(entries: Int32Array, from: number, count: number, tick: number): void {
    for (let i = from; i < count; i++) {
      const slot = this.heldSlotOf(entries[i]!)
      if (slot >= 0) this.queue.touch(slot, tick, false)
    }
  }

  /** Without holes the ranked blocks of a path are its first ones: finds how many, by bisection. */
  #rankedLength(entries: Int32Array, count: number): number {
    const isRankedAt = (i: number): boolean => {
      const slot = this.slotOf(entries[i]!)
      return slot >= 0 && this.isRanked(slot)
    }
    if (isRankedAt(count - 1)) return count
    let ranked = 0
    let not = count - 1
    while (ranked < not) {
      const middle = (ranked + not) >>> 1
      if (isRankedAt(middle)) ranked = middle + 1
      else not = middle
    }
    return ranked
  }
}
