/**
 * Prefix match over all layer groups: the longest prefix for which full and latent groups hold every block, sliding
 * groups the last window before its end, and recurrent groups the snapshot at its end.
 */

import type { LayerGroup } from '../identity/model-layout.js'
import { HASH_WORDS } from '../native/sizes.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import { type GroupTiers, isKept, type MovementContext, nowSeconds } from './context.js'

/** Why a match is not longer. */
export type MatchEnd =
  /** Every whole block of the prompt is held. */
  | 'prompt-end'
  /** Every block is held; the last one is left to compute (option `leaveLastBlock`). */
  | 'last-block-left'
  /** The next block is in no tier. */
  | 'not-held'
  /** The next block is on its way into a tier. */
  | 'being-stored'
  /** The next block expired. */
  | 'expired'
  /** Full groups hold more, but a sliding window or a recurrent snapshot is missing there. */
  | 'window-not-held'

/** How much of a prompt is held, where, and why not more. */
export interface Match {
  /** Tokens that need not be computed. */
  readonly tokens: number
  readonly blocks: number
  /** The same tokens by the tier they would come from. */
  readonly byTier: { readonly device: number; readonly host: number; readonly disk: number }
  readonly stoppedBy: MatchEnd
}

/**
 * The first block of a sliding group that should come with a prefix of `blocks` blocks, earlier than its last window
 * needs: for an engine whose window lies in a ring of cells, which may want back what a fresh evaluation has in them.
 */
export type FirstWanted = (group: LayerGroup, blocks: number) => number

/** A match with the entries of every group; entries of blocks that a group neither needs nor brings besides are -1. */
export interface FullMatch extends Match {
  readonly entries: readonly Int32Array[]
}

const scratch: Int32Array[] = []

function scratchFor(index: number, count: number): Int32Array {
  let array = scratch[index]
  if (array === undefined || array.length < count) {
    array = new Int32Array(Math.max(count, 256) * 2)
    scratch[index] = array
  }
  return array
}

/** First block that a group needs for a prefix of `n` blocks. */
export function firstNeeded(tiers: GroupTiers, n: number, tokensPerBlock: number): number {
  const { kind, windowTokens } = tiers.group
  if (kind === 'sliding')
    return Math.max(0, Math.floor((n * tokensPerBlock - (windowTokens ?? 1) + 1) / tokensPerBlock))
  if (kind === 'recurrent') return Math.max(0, n - 1)
  return 0
}

/**
 * The first of `blockCount` blocks from `firstBlock` on, counted from there, that a group stores of the prefix that they
 * end: a sliding group keeps only its last window, a recurrent one its last snapshot.
 *
 * @param leaveLast - also what the prefix without its last block needs, for the case that this is left to compute
 */
export function firstStored(
  context: MovementContext,
  tiers: GroupTiers,
  firstBlock: number,
  blockCount: number,
  leaveLast: boolean,
): number {
  const end = firstBlock + blockCount - (leaveLast ? 1 : 0)
  return Math.max(0, firstNeeded(tiers, end, context.tokensPerBlock) - firstBlock)
}

function prefixClosed(tiers: GroupTiers): boolean {
  return tiers.group.kind === 'full' || tiers.group.kind === 'latent'
}

/** How far the sliding and recurrent groups allow a prefix of at most `most` blocks. */
function windowLimit(context: MovementContext, words: Uint32Array, most: number, nowS: number): number {
  let n = most
  for (const tiers of context.groups) {
    if (prefixClosed(tiers) || n === 0) continue
    const held = scratchFor(tiers.index, most)
    for (let i = 0; i < most; i++) held[i] = tiers.blocks.findHeld(words, i, nowS)
  }
  next: for (; n > 0; n--) {
    for (const tiers of context.groups) {
      if (prefixClosed(tiers)) continue
      const held = scratchFor(tiers.index, most)
      for (let i = firstNeeded(tiers, n, context.tokensPerBlock); i < n; i++) if ((held[i] ?? -1) < 0) continue next
    }
    break
  }
  return n
}

/** First block of a group that comes with a prefix of which it found these entries: what it needs, or what is wanted. */
function firstComing(
  tiers: GroupTiers,
  found: Int32Array,
  tokensPerBlock: number,
  firstWanted: FirstWanted | undefined,
): number {
  const needed = firstNeeded(tiers, found.length, tokensPerBlock)
  if (firstWanted === undefined || tiers.group.kind !== 'sliding' || needed === 0) return needed
  const wanted = Math.max(0, firstWanted(tiers.group, found.length))
  let first = needed
  for (; first > wanted; first--) {
    const entry = found[first - 1] ?? -1
    // A block in device memory only would fail the load.
    if (entry < 0 || !isKept(tiers, entry)) return needed
  }
  return first
}

function whyStopped(context: MovementContext, words: Uint32Array, at: number, nowS: number): MatchEnd {
  for (const tiers of context.groups) {
    if (!prefixClosed(tiers)) continue
    const entry = tiers.blocks.find(words, at)
    if (entry < 0) return 'not-held'
    if (!tiers.blocks.isHeld(entry)) return 'being-stored'
    if (tiers.blocks.isExpired(entry, nowS)) return 'expired'
  }
  return 'window-not-held'
}

/**
 * Matches the first `count` blocks of `words`.
 *
 * @param leaveLast - leave a block to compute when the whole prompt is held
 * @param wholePrompt - whether `count` blocks are all the tokens the prompt has
 * @param firstWanted - which earlier blocks of sliding groups come besides, where host memory or disk holds them all
 */
export function matchPrefix(
  context: MovementContext,
  words: Uint32Array,
  count: number,
  leaveLast: boolean,
  wholePrompt: boolean,
  firstWanted?: FirstWanted,
): FullMatch {
  const nowS = nowSeconds(context)
  let longest = count
  for (const tiers of context.groups) {
    if (!prefixClosed(tiers)) continue
    longest = Math.min(longest, tiers.blocks.walk(words, longest, scratchFor(tiers.index, longest), nowS))
  }
  const fullEnd = longest
  let stoppedBy: MatchEnd = longest === count ? 'prompt-end' : whyStopped(context, words, longest, nowS)
  if (longest === count && leaveLast && wholePrompt && longest > 0) {
    longest--
    stoppedBy = 'last-block-left'
  }
  const blocks = windowLimit(context, words, longest, nowS)
  if (blocks < longest && blocks < fullEnd) stoppedBy = 'window-not-held'
  // All copied before anybody is asked: who answers may ask for a match of his own.
  const entries = context.groups.map((tiers) => scratchFor(tiers.index, blocks).slice(0, blocks))
  for (const tiers of context.groups) {
    const found = entries[tiers.index]
    found?.fill(-1, 0, firstComing(tiers, found, context.tokensPerBlock, firstWanted))
  }
  return {
    tokens: blocks * context.tokensPerBlock,
    blocks,
    byTier: countTiers(context, entries, blocks),
    stoppedBy,
    entries,
  }
}

/**
 * Tokens that are held after blocks from `firstBlock` on were stored, of which the first `run` arrived of `count`. Where
 * some did not, windows and states of the shorter prefix may be held or not.
 */
export function heldTokens(
  context: MovementContext,
  words: Uint32Array,
  firstBlock: number,
  run: number,
  count: number,
): number {
  const end = firstBlock + run
  if (run === count) return end * context.tokensPerBlock
  return matchPrefix(context, words, Math.min(end, Math.floor(words.length / HASH_WORDS)), false, false).tokens
}

/** The tier a block of one group would be read from: the nearest to the GPU that holds it. */
export function nearestTier(tiers: GroupTiers, entry: number): number {
  if (tiers.tiers[DEVICE].accounted && tiers.blocks.holds(entry, DEVICE)) return DEVICE
  if (tiers.blocks.holds(entry, HOST)) return HOST
  return tiers.blocks.holds(entry, DISK) ? DISK : -1
}

function countTiers(context: MovementContext, entries: readonly Int32Array[], blocks: number): Match['byTier'] {
  const counts = [0, 0, 0]
  for (let i = 0; i < blocks; i++) {
    let furthest = 0
    for (const tiers of context.groups) {
      const entry = entries[tiers.index]?.[i] ?? -1
      if (entry >= 0) furthest = Math.max(furthest, nearestTier(tiers, entry))
    }
    counts[furthest] = (counts[furthest] ?? 0) + 1
  }
  const tokens = (tier: number): number => (counts[tier] ?? 0) * context.tokensPerBlock
  return { device: tokens(DEVICE), host: tokens(HOST), disk: tokens(DISK) }
}
