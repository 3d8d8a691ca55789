/**
 * Where an evaluation of a prompt stops for its state to be saved: a sliding window or a recurrent state is only found
 * again where it was saved.
 */
import { partingOf } from '../../movement/parting.js'
import { type BlockMeta, type CacheContext, promptOf } from './context.js'
import type { EngineSequence } from './engine.js'

/** What is asked for. */
export interface BoundaryPlan {
  readonly tokens: readonly number[]
  /** Fewest tokens of a prefix that is worth bringing back. */
  readonly minGainTokens: number
  readonly meta: BlockMeta
}

/**
 * The places, in order: where the prompt parts from others that are stored, so that the next one which begins like them
 * finds it (a system prompt that many share is computed twice then, and no more); the end of its last whole block; and with
 * all rows of a window also wherever one window is behind the place before.
 *
 * @returns numbers of tokens from the prompt's start, all of them behind what the sequence has
 */
export async function boundariesOf(
  context: CacheContext,
  { nextTokenIndex: have, contextSize }: EngineSequence,
  plan: BoundaryPlan,
): Promise<readonly number[]> {
  const { tokensPerBlock } = context
  const { tokens } = plan
  const end = Math.floor(tokens.length / tokensPerBlock) * tokensPerBlock
  // Behind the context's end the engine shifts, as the caller's own evaluation says and not this one.
  if (!context.needsBoundaries || end - have < tokensPerBlock || end >= contextSize) return []
  const places = new Set([await partingPlace(context, plan), end])
  const step = context.ring?.windowTokens ?? Number.POSITIVE_INFINITY
  for (let place = have + step; place < end; place += step) {
    place -= place % tokensPerBlock
    places.add(place)
  }
  return [...places].filter((place) => place - have >= tokensPerBlock).sort((a, b) => a - b)
}

async function partingPlace(context: CacheContext, { tokens, minGainTokens, meta }: BoundaryPlan): Promise<number> {
  const sequence = promptOf(context, tokens, meta)
  await sequence.prepare()
  const { words } = sequence.hashes
  const blocks = partingOf(context.manager.internals.context, words, sequence.blockCount)
  const place = blocks * context.tokensPerBlock
  return place >= minGainTokens ? place : 0
}
