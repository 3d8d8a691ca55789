/**
 * Offload: the blocks of a sequence that no tier holds, cut out of a state that the engine saves.
 */
import { KvError } from '../../errors.js'
import { storageOf } from '../../movement/context.js'
import type { HostReservation } from '../../movement/host-reservation.js'
import type { Sequence } from '../../movement/sequence.js'
import type { TransferLimits } from '../../movement/transfer.js'
import type { ReadImage } from '../../native/image-binding.js'
import { HOST } from '../../tiers/types.js'
import { type BlockMeta, type CacheContext, commonTokens, looksLike, sequenceOf } from './context.js'
import { keepingContext } from './keep-context.js'
import type { StateImage } from './state-images.js'
import type { TrackedSequence } from './tracked-sequence.js'

/** What an offload did. */
export interface OffloadOutcome {
  /** Tokens from the start of the sequence that a tier holds now. */
  readonly tokens: number
  /** Blocks that were stored now. */
  readonly blocks: number
  /** The blocks' identities, for writing them further down; null where there was none. */
  readonly stored: Sequence | null
}

const NOTHING: OffloadOutcome = { tokens: 0, blocks: 0, stored: null }

/** How many times a host tier that is smaller than the state is filled. */
const MOST_ROUNDS = 1024

/**
 * Stores what is new of a sequence's state. The caller runs one at a time for a sequence.
 *
 * @throws what the engine or a tier threw; nothing of the state is visible then but what was published before
 */
export async function storeState(
  context: CacheContext,
  tracked: TrackedSequence,
  meta: BlockMeta,
  limits: TransferLimits,
): Promise<OffloadOutcome> {
  const { manager, tokensPerBlock } = context
  const { sequence } = tracked
  const blocks = Math.floor(tracked.storable / tokensPerBlock)
  if (blocks === 0) return NOTHING
  // A recurrent state is that of the last token; anywhere else than at the end of a block nothing can use it.
  const isAtBoundary = sequence.nextTokenIndex === blocks * tokensPerBlock
  if (context.sections.some(({ kind }) => kind === 'recurrent') && !isAtBoundary) return NOTHING
  const tokens = sequence.contextTokens.slice(0, blocks * tokensPerBlock)
  const { epoch } = tracked
  const blockSequence = sequenceOf(context, tokens, meta)
  const first = await manager.host.reserve(blockSequence, limits)
  if (!waits(context, first)) {
    first.release()
    return { tokens: blocks * tokensPerBlock, blocks: 0, stored: blockSequence }
  }
  try {
    return await context.images.with(async (image) => {
      await keepingContext(sequence.context, () => sequence.saveStateToFile(image.path))
      context.counters.saves++
      const read = await image.read(context.kinds, context.contextSize)
      checkSaved(context, tracked, tokens, read, epoch)
      return await storeRounds(context, blockSequence, first, image, read, limits)
    })
  } finally {
    // Does nothing once it was published.
    first.release()
  }
}

function waits(context: CacheContext, reservation: HostReservation): boolean {
  const { groups } = context.manager.internals.context
  for (let i = 0; i < reservation.blockCount; i++) {
    for (const { group } of groups) if (reservation.needs(i, group.name)) return true
  }
  return false
}

/** Throws unless the image is the state that was meant. */
function checkSaved(
  context: CacheContext,
  tracked: TrackedSequence,
  tokens: readonly number[],
  read: ReadImage,
  epoch: number,
): void {
  if (!looksLike(context.pattern, read)) {
    throw new KvError(
      'ERR_KV_LAYOUT_MISMATCH',
      'The engine saved a state of other sizes than when the cache was bound.',
    )
  }
  if (tracked.epoch !== epoch || commonTokens(read.tokens, tokens) < tokens.length) {
    throw new KvError('ERR_KV_ABORTED', 'The sequence changed while its state was saved; nothing of it was stored.')
  }
}

/** Cuts and publishes; again for what found no slot, as long as that stores more. */
async function storeRounds(
  context: CacheContext,
  blockSequence: Sequence,
  first: HostReservation,
  image: StateImage,
  read: ReadImage,
  limits: TransferLimits,
): Promise<OffloadOutcome> {
  const { manager, counters } = context
  let reservation = first
  let stored = 0
  for (let round = 0; ; round++) {
    const cut = await fillFrom(context, reservation, image, read)
    const result = await reservation.publish(limits)
    stored += cut
    counters.blocksStored += cut
    counters.bytesStored += result.bytes
    const complete = result.tokens >= blockSequence.tokenCount
    if (complete || cut === 0 || round >= MOST_ROUNDS)
      return { tokens: result.tokens, blocks: stored, stored: blockSequence }
    reservation = await manager.host.reserve(blockSequence, limits)
  }
}

/** Has native code cut what waits and the image has; the rest is given up. Returns how many blocks were cut. */
async function fillFrom(
  context: CacheContext,
  reservation: HostReservation,
  image: StateImage,
  read: ReadImage,
): Promise<number> {
  return await reservation.fill(async (waiting) => {
    let cut = 0
    for (const { tiers, positions, slots } of waiting) {
      const numbers = positions.map((position) => reservation.firstBlock + position)
      const has = numbers.map((block) => imageHas(context, read, tiers.index, block))
      reservation.giveUp(
        tiers,
        positions.filter((_, i) => has[i] !== true),
        'ERR_KV_PARENT_LOST',
      )
      const moves = movesOf(context, tiers.index, numbers, slots, has)
      if (moves.length === 0) continue
      await image.cut(tiers.index, storageOf(tiers, HOST), moves)
      cut += moves.length / 2
    }
    return cut
  })
}

/** Whether an image has all of a block's tokens in a section; of a recurrent state, whether it is the block's end. */
function imageHas(context: CacheContext, read: ReadImage, section: number, block: number): boolean {
  const { tokensPerBlock } = context
  const found = read.sections[section]
  if (found === undefined) return false
  const end = (block + 1) * tokensPerBlock
  if (context.sections[section]?.kind === 'recurrent') return found.firstPosition === end - 1
  return found.firstPosition <= block * tokensPerBlock && end <= found.firstPosition + found.cellCount
}

function movesOf(
  context: CacheContext,
  section: number,
  numbers: readonly number[],
  slots: Uint32Array,
  has: readonly boolean[],
): Uint32Array {
  const recurrent = context.sections[section]?.kind === 'recurrent'
  return Uint32Array.from(
    numbers.flatMap((block, i) => (has[i] === true ? [recurrent ? 0 : block, slots[i] ?? 0] : [])),
  )
}
