/**
 * What every movement needs: the layer groups with their tiers, the way to native code, the counters and the clock. One a
 * manager; the block manager fills it, the modules of this folder read it.
 */
import type { GroupBlocks, ReportSlot } from '../blocks/group-blocks.js'
import { type ErrorCode, KvError } from '../errors.js'
import type { Events } from '../events.js'
import type { LayerGroup } from '../identity/model-layout.js'
import type { Binding, GroupShape } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { Counters } from '../stats.js'
import { DEVICE, DISK, HOST, type TierNumber, type TierSlots, tierName } from '../tiers/types.js'
import type { BorrowedSlots } from './borrowed-slots.js'

/** One layer group: its shape, its accounting, and where its slots are. */
export interface GroupTiers {
  readonly index: number
  readonly group: LayerGroup
  readonly shape: GroupShape
  readonly blockBytes: number
  readonly blocks: GroupBlocks
  /** By tier number. */
  readonly tiers: readonly [TierSlots, TierSlots, TierSlots]
  /** Slots of borrowed device memory that a transfer uses now; null where G1 is owned or absent. */
  readonly borrowed: BorrowedSlots | null
  /** Host slots by tenant that requests have taken and given to no block yet: they count against quotas, too. */
  readonly inHand: Map<number, number>
}

/** What became of a batch of blocks that was to be written. */
export interface WriteReport {
  /** Why blocks are not on disk, if some are not: the first code and message. */
  readonly code: ErrorCode | 'OK'
  readonly message: string
}

/**
 * What may leave a full disk for what is written: `any` block that is not in use, for a caller who asked for the disk by
 * name; `lesser` ones only, by priority and last use, for what merely overflows.
 */
export type Displaces = 'any' | 'lesser'

/** Brings host blocks to disk; see disk-writer.ts. */
export interface HostWriter {
  write(tiers: GroupTiers, entries: readonly number[], displaces: Displaces): Promise<WriteReport>
  idle(): Promise<void>
}

/** Shared by all movement of one manager. */
export interface MovementContext {
  readonly binding: Binding
  readonly completions: Completions
  readonly groups: readonly GroupTiers[]
  readonly tokensPerBlock: number
  readonly counters: Counters
  readonly events: Events
  readonly diskWriter: HostWriter
  readonly leaveLastBlock: boolean
  readonly deadlineMs: number
  /** Unix time in milliseconds; a parameter so that tests own it. */
  readonly now: () => number
  /** The next use, larger than every one before: the order of the eviction policies. */
  readonly nextTick: () => number
  /** What fills blocks now, by the number that is set on them, so that a second request can wait for it. */
  readonly pending: Map<number, Promise<unknown>>
  /** Throws ERR_KV_CLOSED once `close` was called. */
  readonly checkOpen: () => void
}

/** Unix seconds, as records and expiry count. */
export function nowSeconds(context: MovementContext): number {
  return Math.floor(context.now() / 1000)
}

/** The storage of a tier that must be there. */
export function storageOf(tiers: GroupTiers, tier: TierNumber): NonNullable<TierSlots['storage']> {
  const { storage } = tiers.tiers[tier]
  if (storage === null) {
    throw new KvError(
      'ERR_KV_INTERNAL',
      `Layer group ${tiers.group.name} was asked for its ${tierName(tier)} tier; it has none.`,
    )
  }
  return storage
}

/**
 * Evicts a victim whose slot is wanted.
 *
 * @returns false when it was pinned or is needed by blocks behind it; then it stays
 */
export function evictNow(context: MovementContext, tiers: GroupTiers, entry: number, tier: TierNumber): boolean {
  if (!tiers.blocks.evict(entry, tier)) return false
  noteEvicted(context, tiers, tier, 1)
  return true
}

function noteEvicted(context: MovementContext, tiers: GroupTiers, tier: TierNumber, blocks: number): void {
  if (tier === DEVICE) context.counters.evictedFromDevice += blocks
  else if (tier === HOST) context.counters.evictedFromHost += blocks
  else if (tier === DISK) context.counters.evictedFromDisk += blocks
  context.events.emit('evicted', { tier: tierName(tier), blocks, group: tiers.group.name })
}

/** Drops up to `limit` blocks whose time is over, with what is behind them. */
export function sweepExpired(context: MovementContext, tiers: GroupTiers, limit: number): void {
  countEvicted(context, tiers, (report) => tiers.blocks.sweepExpired(nowSeconds(context), limit, report))
}

function countEvicted(context: MovementContext, tiers: GroupTiers, drop: (report: ReportSlot) => void): void {
  const counts = [0, 0, 0]
  drop((tier) => {
    counts[tier] = (counts[tier] ?? 0) + 1
  })
  for (const tier of [DEVICE, HOST, DISK] as const) {
    const blocks = counts[tier] ?? 0
    if (blocks > 0) noteEvicted(context, tiers, tier, blocks)
  }
}

/** Whether host memory or disk holds a block: what only device memory holds is not stored. */
export function isKept(tiers: GroupTiers, entry: number): boolean {
  return tiers.blocks.holds(entry, HOST) || tiers.blocks.holds(entry, DISK)
}

/** The entry of a block that is to be stored; one whose time is over is dropped, so that it is stored anew. -1 = none. */
export function findUnexpired(context: MovementContext, tiers: GroupTiers, words: Uint32Array, index: number): number {
  const entry = tiers.blocks.find(words, index)
  if (entry < 0 || !tiers.blocks.isExpired(entry, nowSeconds(context))) return entry
  countEvicted(context, tiers, (report) => tiers.blocks.drop(entry, report))
  return -1
}

/** Copies `count` blocks' hashes out of packed words, as the bytes that native code takes. */
export function hashBytes(words: Uint32Array, indices: readonly number[]): Uint8Array {
  const packed = new Uint32Array(indices.length * 8)
  for (let i = 0; i < indices.length; i++) {
    const at = (indices[i] ?? 0) * 8
    packed.set(words.subarray(at, at + 8), i * 8)
  }
  return new Uint8Array(packed.buffer)
}

/**
 * Marks blocks as being filled, so that a second request waits instead of filling them again.
 *
 * @returns to be called when none of their slots is filling any more: what arrived is published and the rest given up
 */
export function markPending(context: MovementContext, tiers: GroupTiers, entries: readonly number[]): () => void {
  const id = context.nextTick()
  let resolve: () => void = () => undefined
  context.pending.set(
    id,
    new Promise<void>((ended) => {
      resolve = ended
    }),
  )
  for (const entry of entries) tiers.blocks.setPending(entry, id)
  return () => {
    context.pending.delete(id)
    resolve()
  }
}
