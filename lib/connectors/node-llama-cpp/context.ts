/**
 * What onboarding and offloading of one cache share.
 */
import type { BlockManager, SequenceOptions } from '../../block-manager.js'
import type { Sequence } from '../../movement/sequence.js'
import type { ImageSectionKind, ReadImage } from '../../native/image-binding.js'
import type { CacheCounters } from './cache-stats.js'
import type { Section } from './layout.js'
import type { Speeds } from './speeds.js'
import type { StateImages } from './state-images.js'
import type { WindowRing } from './window-ring.js'

/** Whose blocks they are, and how long they stay. */
export type BlockMeta = Pick<SequenceOptions, 'tenant' | 'priority' | 'ttlMs'>

/** One cache; read by the modules of this folder. */
export interface CacheContext {
  readonly manager: BlockManager
  readonly images: StateImages
  /** What an image consists of, and which layer group each section is. */
  readonly kinds: readonly ImageSectionKind[]
  readonly sections: readonly Section[]
  /** An image of this context that was read at the bind: what others must look like. */
  readonly pattern: ReadImage
  readonly contextSize: number
  readonly tokensPerBlock: number
  /** Whether a prefix can be restored only where a state was saved (a sliding window, a recurrent state). */
  readonly needsBoundaries: boolean
  /** Of a model with a sliding window of which all rows are kept; else null. */
  readonly ring: WindowRing | null
  readonly speeds: Speeds
  readonly counters: CacheCounters
}

/** The identities of the blocks of some tokens. */
export function sequenceOf(context: CacheContext, tokens: ArrayLike<number>, meta: BlockMeta): Sequence {
  return context.manager.sequence(Uint32Array.from(tokens), meta)
}

/**
 * The identities of the blocks of a prompt that has one more token: that is the one the engine evaluates, and no block
 * needs it, so that a prompt of whole blocks can be restored whole.
 */
export function promptOf(context: CacheContext, tokens: ArrayLike<number>, meta: BlockMeta): Sequence {
  const words = new Uint32Array(tokens.length + 1)
  words.set(tokens)
  return context.manager.sequence(words, meta)
}

/** How many leading tokens of two lists are the same. */
export function commonTokens(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length)
  let i = 0
  while (i < most && a[i] === b[i]) i++
  return i
}

/** Whether an image has the sizes and types of the pattern. */
export function looksLike(pattern: ReadImage, read: ReadImage): boolean {
  return (
    pattern.version === read.version &&
    pattern.sections.length === read.sections.length &&
    pattern.sections.every((section, i) => {
      const other = read.sections[i]
      return (
        other !== undefined &&
        other.kind === section.kind &&
        other.layers === section.layers &&
        other.bytesPerToken === section.bytesPerToken &&
        other.transposed === section.transposed &&
        other.rows.length === section.rows.length &&
        other.rows.every((value, at) => value === section.rows[at])
      )
    })
  )
}
