/**
 * Offload: the blocks of a sequence that no tier holds, cut out of a state that the engine saves.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { KvError } from '../../errors.js'
import { storageOf } from '../../movement/context.js'
import type { HostReservation } from '../../movement/host-reservation.js'
import type { Sequence } from '../../movement/sequence.js'
import type { TransferLimits } from '../../movement/transfer.js'
import type { ReadImage } from '../../native/image-binding.js'
import { DISK, HOST } from '../../tiers/types.js'
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
  /** Why not more is held; empty when all whole blocks of the sequence are. */
  readonly message: string
  /** The blocks' identities, for writing them further down; null where there was none. */
  readonly stored: Sequence | null
}

/** The outcome of an offload that stored nothing. */
export function nothingStored(message: string): OffloadOutcome {
  return { tokens: 0, blocks: 0, message, stored: null }
}

/** How many times a host tier that is smaller than the state is filled, where what is in it can go to disk. */
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
  if (blocks === 0) return nothingStored(whyNothing(context, tracked))
  // A recurrent state is that of the last token; anywhere else than at the end of a block nothing can use it.
  const isAtBoundary = sequence.nextTokenIndex === blocks * tokensPerBlock
  if (context.sections.some(({ kind }) => kind === 'recurrent') && !isAtBoundary) {
    return nothingStored(
      `A recurrent state is stored at the end of a block of ${tokensPerBlock} tokens; the sequence has ${sequence.nextTokenIndex}.`,
    )
  }
  const tokens = sequence.contextTokens.slice(0, blocks * tokensPerBlock)
  const { epoch } = tracked
  const blockSequence = sequenceOf(context, tokens, meta)
  await blockSequence.prepare()
  // Of a long state hashing and reserving are each long enough for one turn of the event loop.
  await nextTurn()
  const first = await manager.host.reserve(blockSequence, limits)
  try {
    if (!waits(context, first)) {
      const { tokens: held, message } = await first.publish(limits)
      return { tokens: held, blocks: 0, message, stored: blockSequence }
    }
    await nextTurn()
    return await context.images.toSave(async (image) => {
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

function whyNothing({ tokensPerBlock }: CacheContext, { sequence, storable }: TrackedSequence): string {
  const { nextTokenIndex } = sequence
  if (nextTokenIndex < tokensPerBlock)
    return `The sequence has ${nextTokenIndex} tokens; a block has ${tokensPerBlock}.`
  return (
    `Of the ${nextTokenIndex} tokens in the sequence only the first ${storable} are known to have the KV of a fresh ` +
    'evaluation: what was evaluated before the cache knew the sequence, loaded by somebody else, or shifted is not stored.'
  )
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
  for (const { index } of context.sections) {
    const group = context.manager.layout.groups[index]
    const cells = read.sections[index]?.cellCount ?? 0
    // Some architectures have a window of their own, whatever their file says. One that is too short is a wrong answer.
    if (group?.kind === 'sliding' && cells > (group.windowTokens ?? 0)) {
      throw new KvError(
        'ERR_KV_LAYOUT_MISMATCH',
        `The engine keeps ${cells} tokens of a window of ${group.windowTokens}, which is what the model's file says: nothing ` +
          'of it is stored.',
      )
    }
  }
  if (tracked.epoch !== epoch || commonTokens(read.tokens, tokens) < tokens.length) {
    throw new KvError('ERR_KV_ABORTED', 'The sequence changed while its state was saved; nothing of it was stored.')
  }
}

/**
 * Cuts and publishes; again for what found no slot, as long as that stores more. Without a disk another round would only
 * push out the end of what the one before stored.
 */
async function storeRounds(
  context: CacheContext,
  blockSequence: Sequence,
  first: HostReservation,
  image: StateImage,
  read: ReadImage,
  limits: TransferLimits,
): Promise<OffloadOutcome> {
  const { manager, counters } = context
  const rounds = manager.internals.context.groups.some(({ tiers }) => tiers[DISK].storage !== null) ? MOST_ROUNDS : 1
  let reservation = first
  let stored = 0
  for (let round = 1; ; round++) {
    try {
      await fillFrom(context, reservation, image, read)
      const { tokens, bytes, message } = await reservation.publish(limits)
      const { published } = reservation
      stored += published
      counters.blocksStored += published
      counters.bytesStored += bytes
      const complete = tokens >= blockSequence.tokenCount
      if (complete || published === 0 || round >= rounds) {
        return { tokens, blocks: stored, message: complete ? '' : message, stored: blockSequence }
      }
    } finally {
      // Does nothing once it was published.
      reservation.release()
    }
    reservation = await manager.host.reserve(blockSequence, limits)
  }
}

/** Has native code cut what waits and the image has; the rest is given up. */
async function fillFrom(
  context: CacheContext,
  reservation: HostReservation,
  image: StateImage,
  read: ReadImage,
): Promise<void> {
  await reservation.fill(async (waiting) => {
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
    }
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
