/**
 * The accounting of one layer group: which blocks are held in which slots of which tiers, what is pinned, and what leaves
 * next. No payload, no waiting, no allocation a block. The JavaScript thread.
 *
 * Entries are numbers of blocks. One stays a block's own while it has a slot anywhere; without a slot, only until the
 * next call. A lost block keeps its entry while slots of it are pinned, filling or leaving, but is held nowhere.
 */

import type { SlabContents } from '../native/binding.js'
import { HASH_WORDS } from '../native/sizes.js'
import { Adoption } from './adoption.js'
import { NO_ENTRY } from './block-pool.js'
import { checkGroup } from './check-group.js'
import { type BlockFacts, beginBlock, extendBlock, publishBlock, takeBackFilling } from './filling.js'
import { gallop } from './gallop.js'
import { type GroupOptions, GroupState, type ReportSlot, type TierCounts } from './group-state.js'
import { dropExpired, evictVictim, keepVictim, lastUseOf, outlasts, takeVictim } from './leaving.js'
import { misuse } from './misuse.js'
import { isOverQuota, setQuota, usedBy } from './quotas.js'

export type { BlockFacts } from './filling.js'
export type { GroupOptions, ReportSlot, TierCounts } from './group-state.js'

/** See the file's first lines. Misuse throws `ERR_KV_INTERNAL` with what was asked and what there was. */
export class GroupBlocks {
  readonly #state: GroupState
  #adoption: Adoption | null = null

  /** @throws KvError `ERR_KV_UNKNOWN_POLICY` */
  constructor(options: GroupOptions) {
    this.#state = new GroupState(options)
  }

  /** Whether a block needs the block before it. */
  get prefixClosed(): boolean {
    return this.#state.prefixClosed
  }

  /** Entries in use, those of lost blocks included. */
  get entryCount(): number {
    return this.#state.registry.count
  }

  // Finding

  /**
   * Matches the leading blocks of a request.
   *
   * @param hashes - 8 words a block
   * @param entries - receives their entries, `count` long at least; what lies behind the result is undefined
   * @param nowS - Unix seconds
   * @returns how many are held in at least one tier and have not expired
   */
  walk(hashes: Uint32Array, count: number, entries: Int32Array, nowS: number): number {
    this.#hear(nowS)
    return this.#state.registry.walk(hashes, count, entries, nowS)
  }

  /**
   * The length that {@link walk} would find, by galloping and bisection: O(log n), a hint. It may be wrong where an
   * expired block has ones behind it that have not expired.
   */
  gallop(hashes: Uint32Array, count: number, nowS: number): number {
    return gallop(count, (index) => this.findHeld(hashes, index, nowS) >= 0)
  }

  /** The entry of a block, held or being filled; -1 when there is none. */
  find(hashes: Uint32Array, index: number): number {
    return this.#state.registry.find(hashes, index)
  }

  /** The entry of a block that is held and has not expired; -1 otherwise. */
  findHeld(hashes: Uint32Array, index: number, nowS: number): number {
    this.#hear(nowS)
    const entry = this.#state.registry.find(hashes, index)
    return entry >= 0 && this.isHeld(entry) && !this.isExpired(entry, nowS) ? entry : -1
  }

  /** Whether a block is published in some tier. */
  isHeld(entry: number): boolean {
    return this.#state.registry.copies[entry]! > 0
  }

  /** Whether a block is published in this tier and not lost. */
  holds(entry: number, tier: number): boolean {
    return (this.#state.findTier(tier)?.heldSlotOf(entry) ?? -1) >= 0
  }

  /** The slot that a block has in a tier, published or filling, also when the block is lost; -1 when it has none. */
  slotOf(entry: number, tier: number): number {
    return this.#state.findTier(tier)?.slotOf(entry) ?? -1
  }

  /** The entry that a slot belongs to; -1 for a slot that is free or was not assigned. */
  entryAt(tier: number, slot: number): number {
    return this.#state.findTier(tier)?.pool.ownerOf(slot) ?? NO_ENTRY
  }

  isFilling(entry: number, tier: number): boolean {
    const slot = this.slotOf(entry, tier)
    return slot >= 0 && this.#state.expectTier(tier).pool.isFilling(slot)
  }

  isPinned(entry: number, tier: number): boolean {
    const slot = this.slotOf(entry, tier)
    return slot >= 0 && this.#state.expectTier(tier).pool.pinsOf(slot) > 0
  }

  /** Whether {@link drop} took the block; its entry lives on while slots of it are in use. */
  isLost(entry: number): boolean {
    return this.#state.registry.isLost(entry)
  }

  isExpired(entry: number, nowS: number): boolean {
    return this.#state.registry.isExpired(entry, nowS)
  }

  /** Entry of the block before; -1 for a first block, a lost one, and in groups whose blocks need no parent. */
  parentOf(entry: number): number {
    return this.#state.registry.parentOf(entry)
  }

  depthOf(entry: number): number {
    return this.#state.registry.depthOf(entry)
  }

  /** The tenant's tag. */
  tenantOf(entry: number): number {
    return this.#state.tenants.tagOf(this.#state.registry.tenantOf(entry))
  }

  priorityOf(entry: number): number {
    return this.#state.registry.priorityOf(entry)
  }

  /** Unix seconds; 0 = never. */
  expiresAtOf(entry: number): number {
    return this.#state.registry.expiryOf(entry)
  }

  /** Writes a block's 8 hash words to `words[at ...]`. */
  copyHash(entry: number, words: Uint32Array, at: number): void {
    const { hashes } = this.#state.registry
    for (let word = 0; word < HASH_WORDS; word++) words[at + word] = hashes[entry * HASH_WORDS + word]!
  }

  /** Whether there is a block behind this one, held or being filled. */
  hasChild(entry: number): boolean {
    return this.#state.registry.childCountOf(entry) > 0
  }

  /** Whether a block behind this one is published in the tier, and neither leaving it nor lost. */
  hasChildIn(entry: number, tier: number): boolean {
    return (this.#state.findTier(tier)?.rankedChildrenOf(entry) ?? 0) > 0
  }

  /** The number set by {@link setPending}; 0 = none. */
  pendingOf(entry: number): number {
    return this.#state.registry.pending[entry]!
  }

  /** Remembers what is filling a block, so that a second request can wait for it. */
  setPending(entry: number, id: number): void {
    this.#state.registry.pending[entry] = id
  }

  // Filling

  /**
   * The entry of a block, made where there is none. One that exists keeps the larger priority and the later expiry.
   *
   * @param parent - entry of the block before, -1 for a first block; not looked at in groups whose blocks need no parent
   */
  begin(hashes: Uint32Array, index: number, parent: number, facts: BlockFacts): number {
    return beginBlock(this.#state, hashes, index, parent, facts)
  }

  /** A block is stored again: it keeps the larger priority and the later expiry (Unix seconds; 0 = never). */
  extend(entry: number, priority: number, expiresAtS: number): void {
    if (this.#state.registry.isLive(entry)) extendBlock(this.#state, entry, priority, expiresAtS)
  }

  /** A slot to fill, the one after the last where that is free; -1 when none is free. Assign it or give it back. */
  takeFree(tier: number): number {
    return this.#state.findTier(tier)?.pool.take() ?? -1
  }

  /** The way back of {@link takeFree}, for a slot that was not assigned. */
  giveBack(tier: number, slot: number): void {
    const { pool } = this.#state.expectTier(tier)
    if (pool.ownerOf(slot) !== NO_ENTRY)
      misuse(`Slot ${slot} of tier ${tier} was to be given back; entry ${pool.ownerOf(slot)} has it.`)
    pool.release(slot)
  }

  /** Gives a taken slot to a block that has none in this tier. */
  assign(entry: number, tier: number, slot: number): void {
    if (!this.#state.registry.isLive(entry))
      misuse(`Slot ${slot} of tier ${tier} was to be assigned to entry ${entry}, which is no block.`)
    this.#state.expectTier(tier).assign(entry, slot)
  }

  /** The way back of {@link assign}: the slot is filling and the caller's. A block without any slot is forgotten. */
  unassign(entry: number, tier: number): void {
    takeBackFilling(this.#state, entry, tier, false)
  }

  /**
   * What was filling has arrived.
   *
   * @param pins - pins that the slot has from the start
   * @param lastUse - tick of the block's last use, where that is older: a second copy is no newer than what it copies
   * @returns false when the block was lost meanwhile, or its parent is not held: then `abandon` (or `unassign`) it
   */
  publish(entry: number, tier: number, pins: number = 0, lastUse: number = Number.POSITIVE_INFINITY): boolean {
    return publishBlock(this.#state, entry, tier, pins, lastUse)
  }

  /**
   * What was filling has failed: the slot is free. A block without any slot left is forgotten, and what was begun behind
   * it can no longer be published.
   */
  abandon(entry: number, tier: number): void {
    takeBackFilling(this.#state, entry, tier, true)
  }

  /** Forgets a block that was begun and got no slot; does nothing to others. */
  forget(entry: number): void {
    if (this.#state.registry.isLive(entry)) this.#state.removeIfEmpty(entry)
  }

  // Using

  /** Keeps a published block in its slot until as many calls of {@link unpin}. */
  pin(entry: number, tier: number): void {
    const at = this.#state.expectTier(tier)
    const slot = at.heldSlotOf(entry)
    if (slot < 0) misuse(`Entry ${entry} was to be pinned in tier ${tier}, which does not hold it.`)
    at.pool.pin(slot)
    at.refresh(entry)
  }

  /** Ends one pin. The slot of a lost block is free after the last one. */
  unpin(entry: number, tier: number): void {
    const at = this.#state.expectTier(tier)
    const slot = at.expectSlot(entry, 'unpinned')
    if (!at.pool.unpin(slot)) return
    if (this.isLost(entry)) {
      if (!at.isLeaving(slot)) this.#state.freeSlot(at, entry, slot)
    } else at.refresh(entry)
  }

  /**
   * A request used these blocks: all from its first one on, in order (any blocks, in groups whose blocks need no parent).
   * The order of eviction becomes that of touching each of them, last to first.
   *
   * @param tick - the request's number; never below an earlier one, not negative
   */
  touch(entries: Int32Array, count: number, tick: number): void {
    if (tick < this.#state.tick)
      misuse(`Blocks were to be touched at tick ${tick}; tick ${this.#state.tick} was before.`)
    this.#state.tick = tick
    for (const tier of this.#state.tiers) tier.touch(entries, count, tick)
  }

  // Leaving

  /**
   * The block that leaves a tier next. It is out of the order, though still held, until `evict` or `stay`. Never one that
   * is pinned, has a block behind it in the tier, or is needed by blocks behind it in other tiers because this is its
   * only copy. Expiry is judged by the latest time that any call has named.
   *
   * @param tenant - only blocks of this tenant (by tag), which must have a quota in this tier
   * @returns -1 when there is none
   */
  victim(tier: number, tenant?: number): number {
    return takeVictim(this.#state, tier, tenant, false)
  }

  /**
   * The same for a caller who writes the block, and what is before it, to another tier before it calls `evict`: also
   * blocks whose only copy this is and that blocks behind them need.
   */
  victimToMove(tier: number, tenant?: number): number {
    return takeVictim(this.#state, tier, tenant, true)
  }

  /**
   * Ends a victim's time in the tier and frees its slot.
   *
   * @returns false when it is pinned or needed meanwhile; then it stays, as if `stay` had been called
   */
  evict(entry: number, tier: number): boolean {
    return evictVictim(this.#state, entry, tier)
  }

  /** Puts a victim back where it was in the order. The slot of one that was lost is free now, or at its last unpin. */
  stay(entry: number, tier: number): void {
    keepVictim(this.#state, entry, tier)
  }

  /**
   * Whether a block in `tier` is worth more than `other` in `otherTier`: by expiry, then priority, last use and depth. For
   * a caller who would evict the one to make room for the other.
   */
  outlasts(entry: number, tier: number, other: number, otherTier: number): boolean {
    return outlasts(this.#state, entry, tier, other, otherTier)
  }

  /** Tick of a block's last use in a tier where it has a slot; exact where nothing is behind it there. */
  lastUseOf(entry: number, tier: number): number {
    return lastUseOf(this.#state, entry, tier)
  }

  /**
   * A block is lost: it and everything behind it are held nowhere from now on. Slots that are filling, pinned or leaving
   * stay their entries' until `abandon`, the last `unpin`, `evict` or `stay`; all others are free at once.
   *
   * @param report - called with every published slot of the lost blocks
   * @returns how many blocks were held before and are not now
   */
  drop(entry: number, report: ReportSlot | null = null): number {
    if (!this.#state.registry.isLive(entry)) return 0
    return this.#state.drop(entry, report)
  }

  /**
   * Drops blocks that have expired, the soonest first, with what is behind them.
   *
   * @param limit - stop once this many are dropped (what is behind the last one goes with it)
   * @returns how many were held before and are not now
   */
  sweepExpired(nowS: number, limit: number, report: ReportSlot | null = null): number {
    this.#hear(nowS)
    return dropExpired(this.#state, nowS, limit, report)
  }

  // Tenants

  /** Limits a tenant (by tag) to so many slots of a tier; Infinity ends the limit. The caller keeps to it. O(slots). */
  setQuota(tenant: number, tier: number, slots: number): void {
    setQuota(this.#state, tenant, tier, slots)
  }

  /** Slots of a tier that a tenant (by tag) has, filling ones included. */
  usedBy(tenant: number, tier: number): number {
    return usedBy(this.#state, tenant, tier)
  }

  /**
   * Whether a tenant (by tag) can have no further slot of a tier.
   *
   * @param taken - slots already taken for it and not assigned yet
   */
  isOverQuota(tenant: number, tier: number, taken: number = 0): boolean {
    return isOverQuota(this.#state, tenant, tier, taken)
  }

  // Recovery and looking in

  /**
   * Takes over rows `from` to `to` of a recovered table as blocks of `tier`. Slices of one table follow each other
   * without a gap; between them everything else may be called, but `check`. A row is left out when its parent's was, its
   * slot is not free, its block is in the tier already, or all entries are in use. A block does not leave before the
   * slices of its children have come.
   *
   * @returns how many rows became blocks
   */
  adopt(contents: SlabContents, from: number, to: number, tier: number): number {
    if (from === 0) this.#adoption = new Adoption(this.#state, contents, this.#state.expectTier(tier))
    const adoption = this.#adoption
    if (adoption === null || !adoption.continues(contents, from, tier)) {
      misuse(
        `Rows ${from} to ${to} were to be adopted into tier ${tier}; that does not follow what was adopted before.`,
      )
    }
    const adopted = adoption.adopt(to)
    if (adoption.done) this.#adoption = null
    return adopted
  }

  counts(tier: number): TierCounts {
    return this.#state.counts(tier)
  }

  /** Throws where an invariant is broken, naming it; for tests. O(entries + slots). */
  check(): void {
    checkGroup(this.#state)
  }

  #hear(nowS: number): void {
    if (nowS > this.#state.nowS) this.#state.nowS = nowS
  }
}
