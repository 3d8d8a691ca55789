/**
 * What an eviction policy is: a few numbers a slot, from which one rank is made. Which blocks may leave at all is decided
 * outside; a policy only says which of them leaves first.
 */

/** What a policy is made from: one policy serves one tier of one layer group. */
export interface PolicyContext {
  /** Slots are numbered from 0 below this. */
  readonly slotCount: number
  /** Tick of the last use of the block in each slot; kept by the caller, already up to date in every call. Read only. */
  readonly lastUse: Float64Array
}

/**
 * Ranks the blocks of one tier by slot. Allocates in its maker only, never later.
 *
 * The caller guarantees:
 * - `insert` comes first for a block, and again when the slot has a new one; ticks never go down.
 * - Only the last block of a run that a request used is touched with `passOn`; the blocks before it learn of the use
 *   through `inherit`, when everything behind them has left. So a block's rank is asked for only when it is exact.
 * - Priority, expiry, pins, quotas and the rule that leaves go first are not the policy's business.
 *
 * The policy guarantees: the rank of a slot changes in no other way than by these calls with that slot (`inherit`: the
 * parent's), and none of them depends on the order of equal ticks.
 */
export interface EvictionPolicy {
  /** A block was published in `slot`. That alone is no use of it. */
  insert(slot: number, tick: number): void
  /**
   * A request used the block in `slot`. With `passOn` the use is also one of every block before it in the tier, and
   * none of them was told; without it they were told themselves.
   */
  touch(slot: number, tick: number, passOn: boolean): void
  /** The block in `child` leaves, or is about to: uses of it that were to be passed on now count for its parent. */
  inherit(parent: number, child: number): void
  /** Smaller leaves first. Equal ranks: the older last use, then the deeper block, then the higher slot. */
  rank(slot: number): number
}

/** Makes a policy for one tier. */
export type MakePolicy = (context: PolicyContext) => EvictionPolicy
