/**
 * The tiers, numbered from the GPU outwards, and what every tier gives the block manager: a storage and a slot count a
 * layer group.
 */
import type { LayoutKindName, StorageHandle } from '../native/binding.js'

/** G1: device memory. */
export const DEVICE = 0
/** G2: pinned host memory. */
export const HOST = 1
/** G3: local disk. */
export const DISK = 2
/** How many tiers a manager accounts for. */
export const TIER_COUNT = 3

/** A tier by number: {@link DEVICE}, {@link HOST} or {@link DISK}. */
export type TierNumber = typeof DEVICE | typeof HOST | typeof DISK

/** A tier by name; `none` where no tier holds a block. */
export type TierName = 'none' | 'device' | 'host' | 'disk'

const NAMES: readonly TierName[] = ['device', 'host', 'disk']

/** The name of a tier number; -1 and unknown numbers are `none`. */
export function tierName(tier: number): TierName {
  return NAMES[tier] ?? 'none'
}

/** What one tier holds for one layer group. */
export interface TierSlots {
  /** Where the bytes are; null when the tier is absent. */
  readonly storage: StorageHandle | null
  /** 0 when the tier is absent. */
  readonly slotCount: number
  /** Whether kvtier accounts the slots (owned, host, disk) or the engine does (borrowed device memory). */
  readonly accounted: boolean
  /** Where the memory is of GPUs: which ones, each once, and how it lies there. Otherwise null. */
  readonly cuda: { readonly ordinals: readonly number[]; readonly layout: LayoutKindName } | null
}

/** An absent tier. */
export const NO_TIER: TierSlots = { storage: null, slotCount: 0, accounted: false, cuda: null }
