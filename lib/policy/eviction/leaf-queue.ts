/**
 * Which block of a tier leaves next: the blocks that may leave, in partitions (one for all tenants without a quota, one
 * for each tenant with one), ordered by priority, then the policy's rank. Expired ones go before all others.
 */
import { KvError } from '../../errors.js'
import { makePolicy } from './catalog.js'
import { SlotHeap } from './slot-heap.js'
import type { EvictionPolicy } from './types.js'

/** What the queue asks its owner about the block in a slot. Answers change only while the slot is placed nowhere. */
export interface SlotFacts {
  /** Larger stays longer; decides before the policy. */
  priorityAt(slot: number): number
  /** Unix seconds; 0 = never. */
  expiresAtS(slot: number): number
  /** Blocks before this one; among equals the deeper block leaves first. */
  depthAt(slot: number): number
  /** Number from {@link LeafQueue.openPartition}, or {@link COMMON}. */
  partitionAt(slot: number): number
}

/** The partition of all tenants without a quota of their own. */
export const COMMON = 0
/** Asks {@link LeafQueue.top} for the best of all partitions. */
export const ALL_PARTITIONS = -1

/** Not a candidate: pinned, leaving, or with a block behind it in the tier. */
export const NOWHERE = 0
/** May leave now. */
export const READY = 1
/** Would be next by order, but blocks behind it in other tiers need it: it must get another copy first. */
export const PARKED = 2

/** Where a slot stands in the queue. */
export type Standing = typeof NOWHERE | typeof READY | typeof PARKED

interface Partition {
  readonly ready: SlotHeap
  readonly parked: SlotHeap
  /** The ready ones that can expire, soonest first, then deeper first; null until there is one. */
  expiring: SlotHeap | null
}

/** The order in which the blocks of one tier leave. */
export class LeafQueue {
  /** Tick of the last use of the block in each slot. */
  readonly lastUse: Float64Array
  readonly #policy: EvictionPolicy
  readonly #facts: SlotFacts
  readonly #standings: Uint8Array
  readonly #places: Int32Array
  /** Made when the first block that can expire comes. */
  #expiryPlaces: Int32Array | null = null
  readonly #partitions: (Partition | null)[]
  /** Numbers of closed partitions. */
  readonly #closed: number[] = []

  /** @throws KvError `ERR_KV_UNKNOWN_POLICY` */
  constructor(slotCount: number, policy: string, facts: SlotFacts) {
    this.lastUse = new Float64Array(slotCount)
    this.#policy = makePolicy(policy, { slotCount, lastUse: this.lastUse })
    this.#facts = facts
    this.#standings = new Uint8Array(slotCount)
    this.#places = new Int32Array(slotCount)
    this.#partitions = [this.#makePartition(slotCount)]
  }

  /** A block was published in `slot`, or adopted with an older last use. It is placed nowhere yet. */
  insert(slot: number, tick: number): void {
    this.lastUse[slot] = tick
    this.#policy.insert(slot, tick)
  }

  /** A request used the block in `slot`; see {@link EvictionPolicy.touch}. */
  touch(slot: number, tick: number, passOn: boolean): void {
    if (tick > this.lastUse[slot]!) this.lastUse[slot] = tick
    this.#policy.touch(slot, tick, passOn)
    if (this.#standings[slot] !== NOWHERE) this.#reorder(slot)
  }

  /** The block in `child` leaves (it must be placed nowhere): its uses are its parent's now. */
  inherit(parent: number, child: number): void {
    if (this.lastUse[child]! > this.lastUse[parent]!) this.lastUse[parent] = this.lastUse[child]!
    this.#policy.inherit(parent, child)
    if (this.#standings[parent] !== NOWHERE) this.#reorder(parent)
  }

  /** Where a slot stands. */
  standingOf(slot: number): Standing {
    return this.#standings[slot] as Standing
  }

  /** Puts a slot where it belongs. */
  place(slot: number, standing: Standing): void {
    const before = this.#standings[slot]
    if (before === standing) return
    if (before !== NOWHERE) this.#takeOut(slot)
    this.#standings[slot] = standing
    if (standing === NOWHERE) return
    const partition = this.#partitionOf(slot)
    const heap = standing === READY ? partition.ready : partition.parked
    heap.push(slot, this.#facts.priorityAt(slot), this.#policy.rank(slot))
    const expiresAtS = this.#facts.expiresAtS(slot)
    if (standing === READY && expiresAtS !== 0)
      this.#expiringOf(partition).push(slot, expiresAtS, -this.#facts.depthAt(slot))
  }

  /**
   * The slot whose block leaves next: the one that expired first, else the first by priority and rank.
   *
   * @param nowS - Unix seconds
   * @param parkedToo - consider blocks that need another copy first as well
   * @returns -1 when there is none
   */
  top(partition: number, nowS: number, parkedToo: boolean): number {
    if (partition !== ALL_PARTITIONS) return this.#topOf(this.#partitions[partition] ?? null, nowS, parkedToo)
    if (this.#partitions.length === 1) return this.#topOf(this.#partitions[COMMON]!, nowS, parkedToo)
    let soonest: SlotHeap | null = null
    let best: SlotHeap | null = null
    for (const each of this.#partitions) {
      if (each === null) continue
      const { expiring, ready, parked } = each
      if (expiring !== null && expiring.topFirst <= nowS && (soonest === null || expiring.leads(soonest)))
        soonest = expiring
      if (best === null || ready.leads(best)) best = ready
      if (parkedToo && parked.leads(best)) best = parked
    }
    return (soonest ?? best)?.top ?? -1
  }

  /** A partition of its own for a tenant; its slots move when they are placed again. */
  openPartition(): number {
    const number = this.#closed.pop() ?? this.#partitions.length
    this.#partitions[number] = this.#makePartition()
    return number
  }

  /** Ends a partition that holds no slot any more. */
  closePartition(number: number): void {
    const partition = this.#partitions[number] ?? null
    if (number === COMMON || partition === null || partition.ready.size + partition.parked.size > 0) {
      throw new KvError(
        'ERR_KV_INTERNAL',
        `Partition ${number} was to be closed; it is absent, common, or holds blocks.`,
      )
    }
    this.#partitions[number] = null
    this.#closed.push(number)
  }

  /** Throws where a heap is broken; for tests. */
  check(): void {
    let placed = 0
    for (const partition of this.#partitions) {
      if (partition === null) continue
      partition.ready.check()
      partition.parked.check()
      partition.expiring?.check()
      placed += partition.ready.size + partition.parked.size
    }
    const standing = this.#standings.reduce((count, each) => count + (each === NOWHERE ? 0 : 1), 0)
    if (placed !== standing) {
      throw new KvError('ERR_KV_INTERNAL', `${standing} slots stand in the queue; its heaps hold ${placed}.`)
    }
  }

  #topOf(partition: Partition | null, nowS: number, parkedToo: boolean): number {
    if (partition === null) return -1
    const { expiring, ready, parked } = partition
    if (expiring !== null && expiring.topFirst <= nowS) return expiring.top
    return parkedToo && parked.leads(ready) ? parked.top : ready.top
  }

  #reorder(slot: number): void {
    const partition = this.#partitionOf(slot)
    const heap = this.#standings[slot] === READY ? partition.ready : partition.parked
    heap.update(slot, this.#facts.priorityAt(slot), this.#policy.rank(slot))
  }

  #takeOut(slot: number): void {
    const partition = this.#partitionOf(slot)
    const heap = this.#standings[slot] === READY ? partition.ready : partition.parked
    heap.remove(slot)
    if (this.#expiryPlaces !== null && this.#expiryPlaces[slot] !== 0) this.#expiringOf(partition).remove(slot)
  }

  #partitionOf(slot: number): Partition {
    const number = this.#facts.partitionAt(slot)
    const partition = this.#partitions[number] ?? null
    if (partition === null)
      throw new KvError('ERR_KV_INTERNAL', `Slot ${slot} is of partition ${number}, which is closed.`)
    return partition
  }

  #makePartition(capacity?: number): Partition {
    const before = (a: number, b: number): boolean => this.#leavesBefore(a, b)
    return {
      ready: new SlotHeap(this.#places, before, capacity),
      parked: new SlotHeap(this.#places, before),
      expiring: null,
    }
  }

  #expiringOf(partition: Partition): SlotHeap {
    this.#expiryPlaces ??= new Int32Array(this.#places.length)
    // Nothing that a touch changes: a touched slot keeps its place here.
    partition.expiring ??= new SlotHeap(this.#expiryPlaces, (a, b) => a > b)
    return partition.expiring
  }

  #leavesBefore(a: number, b: number): boolean {
    const uses = this.lastUse[a]! - this.lastUse[b]!
    if (uses !== 0) return uses < 0
    const depths = this.#facts.depthAt(a) - this.#facts.depthAt(b)
    return depths !== 0 ? depths > 0 : a > b
  }
}
