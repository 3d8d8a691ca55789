/**
 * Onboard: the longest held prefix of a prompt, put together into an image that the engine loads.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isKvError } from '../../errors.js'
import { hashBytes, storageOf } from '../../movement/context.js'
import type { HostReading } from '../../movement/host-reading.js'
import type { HeldSlots } from '../../movement/host-reservation.js'
import type { Sequence } from '../../movement/sequence.js'
import type { TransferLimits, TransferResult } from '../../movement/transfer.js'
import type { ImageSource } from '../../native/image-binding.js'
import { HOST } from '../../tiers/types.js'
import type { SkipReason } from './cache-stats.js'
import { type BlockMeta, type CacheContext, commonTokens, promptOf } from './context.js'
import type { Source } from './speeds.js'
import type { StateImage } from './state-images.js'
import type { TrackedSequence } from './tracked-sequence.js'
import { wantedBesides } from './window-ring.js'

/** What became of a prompt. */
export interface NodeLlamaCppOnboard {
  /** Tokens of the prompt that the sequence has now, and that need not be evaluated. */
  readonly tokens: number
  /** Of those, tokens that came from a tier now; the others were in the sequence. */
  readonly onboarded: number
  /** The onboarded tokens by the tier they came from. */
  readonly byTier: { readonly host: number; readonly disk: number }
  /** `onboarded`, or why nothing came. */
  readonly outcome: 'onboarded' | SkipReason
}

/** What is asked for. */
export interface OnboardPlan {
  readonly tokens: readonly number[]
  /** Tokens that may be in the sequence afterwards: the engine must evaluate at least one of a prompt. */
  readonly most: number
  readonly minGainTokens: number
  /** Also where that is likely to be slower than computing. */
  readonly always: boolean
  readonly meta: BlockMeta
  readonly limits: TransferLimits
  /** Whether what comes may still go into the sequence. */
  readonly isWanted: () => boolean
  /** Called before the sequence's state is replaced. */
  readonly beforeReplacing: () => Promise<void>
}

/**
 * Replaces a sequence's state by the longest held prefix of a prompt, where that is worth it. The caller runs one at a
 * time for a sequence.
 *
 * @returns what came; a failure is a miss
 */
export async function restoreState(
  context: CacheContext,
  tracked: TrackedSequence,
  plan: OnboardPlan,
): Promise<NodeLlamaCppOnboard> {
  const { manager, tokensPerBlock, counters } = context
  const kept = keptOf(context, tracked, plan.tokens)
  const skip = (reason: SkipReason): NodeLlamaCppOnboard => {
    counters.skipped[reason]++
    return { tokens: kept, onboarded: 0, byTier: { host: 0, disk: 0 }, outcome: reason }
  }
  const blockSequence = promptOf(context, plan.tokens, plan.meta)
  await blockSequence.prepare()
  const match = blockSequence.match()
  const mostBlocks = Math.floor(plan.most / tokensPerBlock)
  const matched = Math.min(match.tokens, mostBlocks * tokensPerBlock)
  if (matched <= kept) return skip('not-held')
  if (matched - kept < plan.minGainTokens) return skip('small-gain')
  const source: Source = match.byTier.disk > 0 ? 'disk' : 'host'
  if (!plan.always && context.speeds.isSlower(source, matched, matched - kept)) return skip('slower')

  // Of a long prompt matching and loading are each long enough for one turn of the event loop.
  await nextTurn()
  if (isAborted(plan)) return skip('aborted')
  const started = performance.now()
  const reading = await manager.host.load(blockSequence, {
    ...plan.limits,
    ...wantedBesides(context.ring, tokensPerBlock),
    maxBlocks: mostBlocks,
  })
  try {
    const { tokens } = reading.result
    if (isAborted(plan)) return skip('aborted')
    if (tokens <= kept) return skip(isLate(reading.result) ? 'late' : 'lost')
    if (tokens - kept < plan.minGainTokens) return skip('small-gain')
    let storingMs = 0
    const loaded = await context.images.toBuild(async (image) => {
      if (!(await buildImage(context, reading, blockSequence, Uint32Array.from(plan.tokens.slice(0, tokens)), image)))
        return 'lost'
      if (isAborted(plan)) return 'aborted'
      const built = performance.now()
      await plan.beforeReplacing()
      storingMs = performance.now() - built
      if (isAborted(plan)) return 'aborted'
      return await loadImage(tracked, image, tokens, plan.isWanted)
    })
    if (loaded !== 'onboarded') return skip(loaded)
    // What was stored before is no part of what this prefix cost.
    context.speeds.onboarded(source, tokens, performance.now() - started - storingMs)
    return noteOnboarded(context, reading, tokens, kept)
  } finally {
    reading.release()
  }
}

function isAborted({ limits, isWanted }: OnboardPlan): boolean {
  return limits.signal?.aborted === true || !isWanted()
}

/** Whether time is why not all blocks came: the first one that is missing says so. */
function isLate(result: TransferResult): boolean {
  for (let i = 0; i < result.blockCount; i++) {
    const code = result.code(i)
    if (code !== 'OK') return code === 'ERR_KV_DEADLINE'
  }
  return false
}

/** Tokens of the prompt that the sequence would have if it only erased what differs. */
function keptOf(context: CacheContext, { sequence }: TrackedSequence, tokens: readonly number[]): number {
  const same = commonTokens(sequence.contextTokens, tokens)
  if (!context.needsBoundaries || same === sequence.nextTokenIndex) return same
  // A window or a state cannot go back to any token: the engine evaluates again from a checkpoint, or from the start.
  const again = sequence.getRestoreToPrefixIndexEvaluationSize?.(same)
  return again === undefined || again < 0 ? 0 : Math.max(0, same - again)
}

async function loadImage(
  tracked: TrackedSequence,
  image: StateImage,
  tokens: number,
  isWanted: () => boolean,
): Promise<'onboarded' | 'busy' | 'aborted' | 'failed'> {
  if (tracked.released) return 'aborted'
  if (tracked.busy) return 'busy'
  try {
    await tracked.load(image.path, tokens, isWanted)
    return 'onboarded'
  } catch (error) {
    if (isKvError(error) && error.code === 'ERR_KV_ABORTED') return 'aborted'
    // The context is gone; and of a sequence that was disposed meanwhile the engine says so itself.
    if (tracked.sequence.disposed || (isKvError(error) && error.code === 'ERR_KV_CLOSED')) throw error
    return 'failed'
  }
}

function noteOnboarded(
  context: CacheContext,
  { result }: HostReading,
  tokens: number,
  kept: number,
): NodeLlamaCppOnboard {
  const { counters, tokensPerBlock } = context
  let disk = 0
  for (let i = Math.floor(kept / tokensPerBlock); i * tokensPerBlock < tokens; i++) {
    const here = Math.min(tokensPerBlock, (i + 1) * tokensPerBlock - kept)
    if (result.tier(i) === 'disk') disk += here
  }
  const onboarded = tokens - kept
  const byTier = { host: onboarded - disk, disk }
  counters.onboards++
  counters.tokensOnboarded += onboarded
  counters.tokensFromHost += byTier.host
  counters.tokensFromDisk += byTier.disk
  return { tokens, onboarded, byTier, outcome: 'onboarded' }
}

/**
 * Writes the image of a prefix.
 *
 * @returns false where a block's bytes were not what they should be: such blocks are lost
 * @throws KvError when there was no room for the image, or native code could not take more work
 */
export async function buildImage(
  context: CacheContext,
  reading: HostReading,
  blockSequence: Sequence,
  tokens: Uint32Array,
  image: StateImage,
): Promise<boolean> {
  return await reading.use(async (held) => {
    const sources = held.map((each) => sourceOf(context, blockSequence, each))
    const { bad } = await image.build(context.pattern.shape, tokens, sources)
    for (let i = 0; i < bad.length; i += 2) {
      const group = held[bad[i] ?? 0]
      const position = group?.positions[bad[i + 1] ?? 0]
      if (group !== undefined && position !== undefined) reading.lose(group.tiers, position)
    }
    return bad.length === 0
  })
}

function sourceOf(context: CacheContext, blockSequence: Sequence, { tiers, positions, slots }: HeldSlots): ImageSource {
  const recurrent = context.sections[tiers.index]?.kind === 'recurrent'
  return {
    storage: storageOf(tiers, HOST),
    firstBlock: recurrent ? 0 : (positions[0] ?? 0),
    slots,
    hashes: hashBytes(blockSequence.hashes.words, positions),
  }
}
