/**
 * What a cache counts.
 */

/** Why an onboard brought nothing. */
export type SkipReason =
  /** No tier holds more of the prompt than the sequence has. */
  | 'not-held'
  /** Fewer tokens than `minGainTokens` would have come. */
  | 'small-gain'
  /** It would have taken longer than computing them. */
  | 'slower'
  /** The signal fired, or the sequence was detached, attached for another or disposed meanwhile. */
  | 'aborted'
  /** Blocks were there, but did not arrive, or not whole: damaged, evicted meanwhile, or host memory had no room. */
  | 'lost'
  /** Blocks were there, but did not arrive before the deadline. */
  | 'late'
  /** Something failed, or the engine did not take the image; the event `failed` says what. */
  | 'failed'
  /** A step of an evaluation of the sequence was running. */
  | 'busy'
  /** The cache is off; `stats().reason` says why. */
  | 'off'

/** Counts since the cache was bound. */
export interface CacheCounters {
  /** Prompts that were looked up. */
  prompts: number
  /** Their tokens. */
  promptTokens: number
  /** Of those, tokens that the sequence had already. */
  tokensKept: number
  /** Of the prompts' tokens, those that came from a tier. */
  tokensOnboarded: number
  tokensFromHost: number
  tokensFromDisk: number
  /** States that were loaded into a sequence. */
  onboards: number
  /** Onboards that brought nothing, by why. */
  readonly skipped: Record<SkipReason, number>
  /** States that were saved to be cut into blocks. */
  saves: number
  /** Blocks, of all layer groups, that were cut out of them and can be found. */
  blocksStored: number
  bytesStored: number
  /** States that were saved, or should have been, of which nothing could be stored. */
  offloadFailures: number
  /** Evaluations that were stopped at a block's end to save the state there. */
  boundaryStops: number
}

/** What `stats()` gives. */
export interface NodeLlamaCppStats extends Readonly<CacheCounters> {
  /** Whether blocks are used; where not, sequences work as without a cache. */
  readonly enabled: boolean
  /** Why not; empty when they are. */
  readonly reason: string
  /** Sequences that are attached. */
  readonly attached: number
  /** Milliseconds a token: of computing, and of onboarding from host memory and from disk; null: not seen yet. */
  readonly msPerToken: { readonly compute: number | null; readonly host: number | null; readonly disk: number | null }
}

/** Counters that count nothing yet. */
export function zeroCacheCounters(): CacheCounters {
  return {
    prompts: 0,
    promptTokens: 0,
    tokensKept: 0,
    tokensOnboarded: 0,
    tokensFromHost: 0,
    tokensFromDisk: 0,
    onboards: 0,
    skipped: { 'not-held': 0, 'small-gain': 0, slower: 0, aborted: 0, lost: 0, late: 0, failed: 0, busy: 0, off: 0 },
    saves: 0,
    blocksStored: 0,
    bytesStored: 0,
    offloadFailures: 0,
    boundaryStops: 0,
  }
}
