/**
 * The parts of a layer group's accounting and the changes that several verbs share. Keeps the one rule of prefix-closed
 * groups: a block that is held has a parent that is held.
 */
import { BlockRegistry } from './block-registry.js'
import { misuse } from './misuse.js'
import { TenantTable } from './tenant-table.js'
import { TierBlocks } from './tier-blocks.js'

/** Tiers that a group can have: device, host, disk, shared. */
export const MAX_TIERS = 4

/** Called with each published slot of a dropped block, so that the caller can erase its record. */
export type ReportSlot = (tier: number, slot: number) => void

/** Slots of one tier by state, and blocks that can be found there. `free + filling + pinned + evictable = slots`. */
export interface TierCounts {
  readonly slots: number
  readonly free: number
  readonly filling: number
  readonly pinned: number
  readonly evictable: number
  readonly held: number
}

/** What {@link GroupState} is made from. */
export interface GroupOptions {
  /** By tier number; an absent tier has 0 slots. */
  readonly tiers: readonly { readonly slotCount: number }[]
  /** Name of an eviction policy. */
  readonly policy: string
  /** Whether a block needs the block before it (full attention, latent), or not (sliding window, recurrent). */
  readonly prefixClosed: boolean
  /** Blocks known at once; default: one a slot, and as many again as a transfer may have begun without a slot. */
  readonly entries?: number
}

const ENTRIES_WITHOUT_SLOT = 16_384

/** Registry, tiers and tenants of one layer group. */
export class GroupState {
  readonly prefixClosed: boolean
  readonly registry: BlockRegistry
  readonly tenants: TenantTable
  /** The tiers that are there, nearest first. */
  readonly tiers: readonly TierBlocks[]
  /** Tick of the latest use. */
  tick = 0
  /** Latest time heard of, Unix seconds. */
  nowS = 0
  readonly #byNumber: (TierBlocks | null)[]

  /** @throws KvError `ERR_KV_UNKNOWN_POLICY` */
  constructor(options: GroupOptions) {
    const { tiers, prefixClosed, policy } = options
    if (tiers.length > MAX_TIERS) misuse(`${tiers.length} tiers were asked for; there are at most ${MAX_TIERS}.`)
    const slots = tiers.reduce((sum, tier) => sum + tier.slotCount, 0)
    this.prefixClosed = prefixClosed
    this.registry = new BlockRegistry(options.entries ?? slots + ENTRIES_WITHOUT_SLOT)
    this.tenants = new TenantTable(MAX_TIERS)
    this.#byNumber = tiers.map(({ slotCount }, number) =>
      slotCount > 0 ? new TierBlocks(number, slotCount, policy, this.registry, this.tenants, prefixClosed) : null,
    )
    this.tiers = this.#byNumber.filter((tier) => tier !== null)
    for (const tier of this.tiers) tier.setOthers(this.tiers.filter((other) => other !== tier))
  }

  /** The tier of this number; null when it is absent. */
  findTier(number: number): TierBlocks | null {
    return this.#byNumber[number] ?? null
  }

  /** The tier that an operation needs. */
  expectTier(number: number): TierBlocks {
    return this.#byNumber[number] ?? misuse(`Tier ${number} was asked for; this group does not have it.`)
  }

  /** Slots of a tier by state; all 0 when it is absent. */
  counts(number: number): TierCounts {
    const at = this.findTier(number)
    if (at === null) return { slots: 0, free: 0, filling: 0, pinned: 0, evictable: 0, held: 0 }
    const { pool } = at
    return {
      slots: pool.slotCount,
      free: pool.count('free'),
      filling: pool.count('filling'),
      pinned: pool.count('pinned'),
      evictable: pool.count('evictable'),
      held: at.held,
    }
  }

  /** Looks anew at whether the entry's blocks may leave, in every tier. */
  refresh(entry: number): void {
    for (const tier of this.tiers) tier.refresh(entry)
  }

  /** Puts a block that was published in the order of its tier, and looks anew at what that bears on. */
  rank(tier: TierBlocks, entry: number, slot: number): void {
    tier.rank(entry, slot)
    this.refresh(entry)
  }

  /** Frees an entry's slot: its own number too when that was the last slot of a lost block. */
  freeSlot(tier: TierBlocks, entry: number, slot: number): void {
    tier.takeBack(entry, slot, true)
    if (this.registry.isLost(entry)) this.releaseIfEmpty(entry)
  }

  /** Removes a live entry that has no slot, and with it what was begun behind it; others stay as they are. */
  removeIfEmpty(entry: number): void {
    if (this.hasSlot(entry)) return
    if (this.registry.copies[entry] !== 0) misuse(`Entry ${entry} has no slot; it counts as published.`)
    if (this.registry.childCountOf(entry) !== 0) {
      this.drop(entry, null)
      return
    }
    const parent = this.registry.parentOf(entry)
    this.registry.lose(entry)
    this.#release(entry)
    if (parent >= 0) this.refresh(parent)
  }

  /** Makes the number of a lost block that has no slot left free for another one. */
  releaseIfEmpty(entry: number): void {
    if (!this.hasSlot(entry)) this.#release(entry)
  }

  /** Whether the entry has a slot in some tier, filling or published. */
  hasSlot(entry: number): boolean {
    for (const tier of this.tiers) if (tier.slotOf(entry) >= 0) return true
    return false
  }

  /**
   * Loses a block and everything behind it. Slots that are pinned, filling or leaving go later, the others now.
   *
   * @returns how many of them were held
   */
  drop(entry: number, report: ReportSlot | null): number {
    const parentOfAll = this.registry.parentOf(entry)
    let lost = 0
    let at = entry
    for (;;) {
      // Children first: what they were used for is handed on to the block before, up to the one that remains.
      for (let child = this.registry.firstChildOf(at); child >= 0; child = this.registry.firstChildOf(at)) at = child
      const parent = this.registry.parentOf(at)
      lost += this.#lose(at, report)
      if (at === entry) break
      at = parent
    }
    if (parentOfAll >= 0) this.refresh(parentOfAll)
    return lost
  }

  /** Loses one block without children. */
  #lose(entry: number, report: ReportSlot | null): number {
    const wasHeld = this.registry.copies[entry]! > 0
    for (const tier of this.tiers) {
      const slot = tier.slotOf(entry)
      if (slot < 0 || !tier.pool.isPublished(slot)) continue
      if (tier.isRanked(slot)) tier.unrank(entry, slot)
      tier.held--
      report?.(tier.number, slot)
      if (!tier.isLeaving(slot) && tier.pool.pinsOf(slot) === 0) tier.takeBack(entry, slot, true)
    }
    this.registry.lose(entry)
    this.releaseIfEmpty(entry)
    return wasHeld ? 1 : 0
  }

  #release(entry: number): void {
    const tenant = this.registry.tenantOf(entry)
    this.registry.release(entry)
    this.tenants.leave(tenant)
  }
}
