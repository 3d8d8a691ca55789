/**
 * What every movement needs: the layer groups with their tiers, the way to native code, the counters and the clock. One a
 * manager; the block manager fills it, the modules of this folder read it.
 */
import type { GroupBlocks, ReportSlot } from '../blocks/group-blocks.js'
import { type ErrorCode, invalidValue, KvError } from '../errors.js'
import type { Events } from '../events.js'
import type { LayerGroup } from '../identity/model-layout.js'
import type { Binding, GroupShape } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { Counters } from '../stats.js'
import { DEVICE, DISK, HOST, type TierNumber, type TierSlots, tierName } from '../tiers/types.js'
import type { BorrowedSlots } from './borrowed-slots.js'
import type { DeviceState } from './device-state.js'

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

/** What may end a write: the part of a transfer's control that the writer needs. */
export interface WriteControl {
  /** Why it was ended, or null while it was not. */
  readonly code: ErrorCode | null
  restartDeadline(): void
  adopt(ticket: number, settled: Promise<unknown>): void
}

/** Brings host blocks to disk; see disk-writer.ts. */
export interface HostWriter {
  write(
    tiers: GroupTiers,
    entries: readonly number[],
    displaces: Displaces,
    control?: WriteControl,
  ): Promise<WriteReport>
  idle(): Promise<void>
  cancel(code: ErrorCode): void
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
  readonly device: DeviceState
  readonly leaveLastBlock: boolean
  readonly deadlineMs: number
  /** Unix time in milliseconds; a parameter so that tests own it. */
  readonly now: () => number
  /** The next use, larger than every one before: the order of the eviction policies. */
  readonly nextTick: () => number
  /** What fills blocks now, by the number that is set on them, so that a second request can wait for it. */
  readonly pending: Map<number, Promise<unknown>>
  /** How often a caller showed that it may have written over device copies (see device-slots.ts). */
  readonly mistakes: { overwritten: number }
  /** Throws ERR_KV_CLOSED once `close` was called. */
  readonly checkOpen: () => void
}

/** Blocks that one turn of the event loop bears: more are written behind over several turns. */
export const BLOCKS_PER_TURN = 64

/** The layer group that a caller named; the name may be left out where there is only one. */
export function groupNamed(context: MovementContext, name: string | undefined): GroupTiers {
  const only = context.groups.length === 1 ? context.groups[0] : undefined
  const tiers = name === undefined ? only : context.groups.find((each) => each.group.name === name)
  if (tiers !== undefined) return tiers
  const names = context.groups.map((each) => each.group.name).join(', ')
  return invalidValue('group', `the name of a layer group (${names})`, name)
}

/** Unix seconds, as records and expiry count. */
export function nowSeconds(context: MovementContext): number {
  return Math.floor(context.now() / 1000)
}

/** When a block that is stored now expires, in Unix seconds; 0 = never, as a lifetime of 0 ms says. */
export function expiryAfter(context: MovementContext, ttlMs: number): number {
  return ttlMs === 0 ? 0 : nowSeconds(context) + Math.max(1, Math.ceil(ttlMs / 1000))
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

/** Blocks that expired and are dropped each time. */
const SWEEP = 64

/**
 * Drops some of the blocks whose time is over, with what is behind them. Never between a match and the pins on what it
 * found.
 */
export function sweepExpired(context: MovementContext, tiers: GroupTiers): void {
  countEvicted(context, tiers, (report) => tiers.blocks.sweepExpired(nowSeconds(context), SWEEP, report))
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

/** The block before is in no tier and not on its way to host memory: nothing can be begun behind it. */
export const NO_PARENT = -2

/** The entry that block `at` of a sequence is begun behind: -1 where it needs none; or {@link NO_PARENT}. */
export function parentFor(tiers: GroupTiers, words: Uint32Array, at: number): number {
  const { blocks } = tiers
  if (!blocks.prefixClosed || at === 0) return -1
  const parent = blocks.find(words, at - 1)
  return parent >= 0 && (blocks.isHeld(parent) || blocks.slotOf(parent, HOST) >= 0) ? parent : NO_PARENT
}

const ENDED: readonly ErrorCode[] = ['ERR_KV_ABORTED', 'ERR_KV_DEADLINE', 'ERR_KV_CLOSED']

/** Counts blocks of a transfer that did not begin, by why. */
export function countMisses(context: MovementContext, code: ErrorCode, blocks: number): void {
  if (ENDED.includes(code)) context.counters.abandoned += blocks
  else context.counters.transferFailures += blocks
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
