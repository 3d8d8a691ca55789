/**
 * The ring of cells in which llama.cpp keeps the rows of a sliding window. A fresh evaluation puts the row of position p
 * into cell p modulo their number, and some kernels add up in the order of the cells: rows that come back elsewhere give the
 * last bits of a logit another value. (The sizes are those of llama.cpp's llama_kv_cache_iswa, with a batch of one token
 * more than the context says, as node-llama-cpp asks for. Where a release had others, last bits would differ, and no more.)
 */
import type { LoadOptions } from '../../movement/host-access.js'
import type { EngineContext } from './engine.js'

/** The rows of a window that are stored and brought back where all are. */
export interface WindowRing {
  /** Tokens of the window. */
  readonly windowTokens: number
  /** Cells of the ring; null where there is one for each position, and all rows are where they were anyway. */
  readonly cells: number | null
}

/** Cells come in so many. */
const CELLS = 256

/** The ring of a context whose window has so many tokens. */
export function ringOf({ contextSize, batchSize, _swaFullCache }: EngineContext, windowTokens: number): WindowRing {
  if (_swaFullCache === true || batchSize === undefined) return { windowTokens, cells: null }
  const cells = Math.ceil(Math.min(contextSize, windowTokens + batchSize + 1) / CELLS) * CELLS
  return { windowTokens, cells }
}

/**
 * The first row that must come with a prefix for all to lie where a fresh evaluation has them: what comes is put into cells
 * from the first one on. Where a prefix ends less than a window behind a whole number of rings that cannot be, for the
 * window's rows lie at both ends of the ring.
 *
 * @returns a position; of the window alone where no more is of use
 */
export function firstRowInPlace({ windowTokens, cells }: WindowRing, tokens: number): number {
  const window = Math.max(0, tokens - windowTokens)
  if (cells === null) return window
  const behind = tokens % cells
  if (behind === 0) return Math.max(0, tokens - cells)
  return behind >= Math.min(windowTokens, tokens) ? tokens - behind : window
}

/** What a load asks for besides, where all rows of a window are kept. */
export function wantedBesides(ring: WindowRing | null, tokensPerBlock: number): Pick<LoadOptions, 'firstWanted'> {
  if (ring === null) return {}
  return { firstWanted: (_group, blocks) => firstRowInPlace(ring, blocks * tokensPerBlock) / tokensPerBlock }
}
