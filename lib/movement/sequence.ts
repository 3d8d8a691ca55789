/**
 * A sequence: the tokens of one prompt or chat, the identities of its blocks, and their way to and from the GPU. It holds
 * no blocks; forgetting it costs nothing.
 */
import { flag, integer, invalidType, invalidValue, KvError, object, optionsOf } from '../errors.js'
import type { ExtraKeyAt, SequenceHashes, Tokens } from '../identity/sequence-hashes.js'
import { NO_SLOT } from '../native/binding.js'
import { DEVICE } from '../tiers/types.js'
import { slotArray } from './borrowed-slots.js'
import { expiryAfter, type GroupTiers, type MovementContext } from './context.js'
import { DeviceSlots } from './device-slots.js'
import { captureFences, checkFences, type Fence } from './fence.js'
import { ReadyOffer } from './layer-events.js'
import { type Match, matchPrefix } from './match.js'
import { checkUntil, runOffload } from './offload.js'
import { runOnboard } from './onboard.js'
import { startTransfer, type Transfer, TransferControl, type TransferLimits } from './transfer.js'

/** Device slots of a call: one array where the model has one layer group, otherwise one a group by name. */
export type SlotsByGroup = Uint32Array | Readonly<Record<string, Uint32Array>>

/** What `sequence.onboard` takes. */
export interface OnboardOptions extends TransferLimits {
  /**
   * What last used the destination; of several fences all must have passed. With owned device memory kvtier chooses the
   * slots, any of those that were released: name what lies behind all work with them (the stream that the engine works
   * in), or release slots only when that work has ended, and say `fence.quiet()`.
   */
  readonly after: Fence | readonly Fence[]
  /**
   * Borrowed device memory: the slots to fill, one a block from the prompt's first; as many blocks are onboarded as there
   * are slots. They are the transfer's until `settled`. Left out for owned device memory.
   */
  readonly into?: SlotsByGroup
  /** Blocks at most (default: the whole prompt). */
  readonly maxBlocks?: number
  /**
   * Give events a layer in {@link Transfer.ready}, for an engine that computes with the first layers while the others
   * arrive (default false). Copying layer by layer takes the GPU longer in all.
   */
  readonly layerEvents?: boolean
}

/** What `sequence.offload` takes. */
export interface OffloadOptions extends TransferLimits {
  /** What produced the bytes; of several fences all must have passed. */
  readonly after: Fence | readonly Fence[]
  /**
   * Where the blocks are: device slots, one a block from `firstBlock` on (4294967295 where the engine no longer has the
   * block), or the reservation of owned device memory that they were computed in. They are the transfer's until `settled`.
   * Slots of a reservation hold the blocks' device copies from then on, and must not be written before its release; a slot
   * that was named as one block's is refused as another's.
   */
  readonly from: SlotsByGroup | DeviceSlots
  /** Number of the first block to store (default 0). The blocks before it must be held. */
  readonly firstBlock?: number
  /** Position in `from` of block `firstBlock` (default 0), for a reservation that is offloaded in parts. */
  readonly fromOffset?: number
  /** Blocks to store (default: one for each slot of `from` from `fromOffset` on). The other slots stay the caller's. */
  readonly blockCount?: number
  /** `host`: done when host memory holds the blocks (default). `disk`: when they would survive a kill -9. */
  readonly until?: 'host' | 'disk'
}

/** What the blocks of a sequence are stored with. */
export interface SequenceMeta {
  readonly tenant: number
  readonly priority: number
  /** Milliseconds that a stored block lives; 0 = until it is evicted. */
  readonly ttlMs: number
}

/** Transfers that have not settled, so that `close` can wait for them. */
export interface ActiveTransfers {
  add(control: TransferControl): () => void
}

const ALL = 0x7fffffff

/** The options of a call that takes {@link TransferLimits}, beside those of its own. */
export const LIMIT_OPTIONS: readonly (keyof TransferLimits)[] = ['signal', 'deadlineMs']
const ONBOARD_OPTIONS: readonly (keyof OnboardOptions)[] = [
  'after',
  'into',
  'maxBlocks',
  'layerEvents',
  ...LIMIT_OPTIONS,
]
const OFFLOAD_OPTIONS: readonly (keyof OffloadOptions)[] = [
  'after',
  'from',
  'firstBlock',
  'fromOffset',
  'blockCount',
  'until',
  ...LIMIT_OPTIONS,
]

/** Tokens and identities of one prompt; made by `manager.sequence`. */
export class Sequence {
  readonly #context: MovementContext
  readonly #hashes: SequenceHashes
  readonly #meta: SequenceMeta
  readonly #active: ActiveTransfers

  /** @internal */
  constructor(context: MovementContext, hashes: SequenceHashes, meta: SequenceMeta, active: ActiveTransfers) {
    this.#context = context
    this.#hashes = hashes
    this.#meta = meta
    this.#active = active
  }

  /** Tokens so far. */
  get tokenCount(): number {
    return this.#hashes.tokenCount
  }

  /** Whole blocks so far; tokens behind the last one are stored when their block is whole. */
  get blockCount(): number {
    return this.#hashes.blockCount
  }

  /** @internal */
  get hashes(): SequenceHashes {
    return this.#hashes
  }

  /** @internal */
  get meta(): SequenceMeta {
    return this.#meta
  }

  /**
   * Adds tokens at the end, all or none.
   *
   * @param tokens - integers from 0 to 4294967295
   * @param extraKeysAt - what changes the KV from one of the new tokens on, an image for example
   * @throws KvError ERR_KV_INVALID_TOKEN, ERR_KV_DETACHED_ARRAY, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE
   */
  append(tokens: Tokens, extraKeysAt?: readonly ExtraKeyAt[]): void {
    this.#hashes.append(tokens, extraKeysAt)
  }

  /** Hashes what is not hashed yet, long prompts on a thread of kvtier's own; `match` then only looks up. */
  async prepare(): Promise<void> {
    await this.#hashes.prepare()
  }

  /**
   * How much of the prompt is held, where, and why not more. A look, not a hold: what it found may be evicted before an
   * onboard. Hashes blocks that are not hashed yet on the spot; call {@link prepare} first for very long prompts.
   *
   * @throws KvError ERR_KV_CLOSED
   */
  match(): Match {
    const context = this.#context
    context.checkOpen()
    this.#hashes.hashBlocks()
    const count = this.#hashes.blockCount
    const whole = count * context.tokensPerBlock === this.#hashes.tokenCount
    const { tokens, blocks, byTier, stoppedBy } = matchPrefix(
      context,
      this.#hashes.words,
      count,
      context.leaveLastBlock,
      whole,
    )
    context.counters.matches++
    context.counters.tokensAsked += this.#hashes.tokenCount
    context.counters.tokensMatched += tokens
    return { tokens, blocks, byTier, stoppedBy }
  }

  /**
   * Brings the longest held prefix into device memory.
   *
   * @returns the transfer; its result's `tokens` is the prefix that need not be computed. With owned device memory the
   * result has a `pin` with the slots: release it when the engine no longer reads them.
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE and ERR_KV_INVALID_VALUE naming the option; ERR_KV_DETACHED_ARRAY;
   * ERR_KV_SLOT_OUT_OF_RANGE; ERR_KV_SLOT_REPEATED; ERR_KV_UNSUPPORTED without device memory, and for the fence of a GPU's
   * work without one
   */
  onboard(options: OnboardOptions): Transfer {
    const context = this.#context
    context.checkOpen()
    const given = optionsOf('options', options, ONBOARD_OPTIONS)
    const fences = checkFences('after', given.after)
    const layerEvents = flag('layerEvents', given.layerEvents, false)
    const limits = checkLimits(given)
    const owned = deviceIsOwned(context)
    if (owned && options.into !== undefined) {
      invalidValue('into', 'left out: kvtier accounts this device memory and chooses the slots', 'given')
    }
    const into = owned ? null : slotsByGroup(context, 'into', options.into)
    const maxBlocks = Math.min(into?.[0]?.length ?? ALL, integer('maxBlocks', options.maxBlocks ?? ALL, 0))
    const after = captureFences(context, 'after', fences)
    const giveBack = takeBorrowed(context, into, true)
    const ready = layerEvents && context.device.ordinals.length > 0 ? new ReadyOffer(context) : null
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = this.#active.add(control)
    const plan = {
      hashes: this.#hashes,
      into,
      to: 'device',
      maxBlocks,
      leaveLast: context.leaveLastBlock,
      tenant: this.#meta.tenant,
      after,
      ready,
    } as const
    return startTransfer(
      control,
      // However it ends, nobody waits for events that do not come.
      (running) => runOnboard(context, plan, running).finally(() => ready?.refuse()),
      () => {
        giveBack()
        forget()
      },
      ready?.promise,
    )
  }

  /**
   * Stores blocks of the sequence. Blocks that are held already do not move.
   *
   * @returns the transfer; its result names, for every block, the furthest tier that holds it
   * @throws KvError ERR_KV_CLOSED; ERR_KV_NO_WHOLE_BLOCK when the slots name blocks that are not whole;
   * ERR_KV_INVALID_TYPE and ERR_KV_INVALID_VALUE naming the option; ERR_KV_DETACHED_ARRAY; ERR_KV_SLOT_OUT_OF_RANGE;
   * ERR_KV_SLOT_REPEATED, also where a slot of a reservation holds another block: what was offloaded from it may have been
   * written over, and is a miss from then on; ERR_KV_RELEASED; ERR_KV_UNSUPPORTED without device memory, for `until: 'disk'`
   * without a disk tier, and for the fence of a GPU's work without one
   */
  offload(options: OffloadOptions): Transfer {
    const context = this.#context
    context.checkOpen()
    const given = optionsOf('options', options, OFFLOAD_OPTIONS)
    const fences = checkFences('after', given.after)
    const limits = checkLimits(given)
    const until = checkUntil(context, options.until)
    const firstBlock = integer('firstBlock', options.firstBlock ?? 0, 0)
    const reserved = options.from instanceof DeviceSlots ? options.from : null
    const named = reserved === null ? slotsByGroup(context, 'from', options.from) : reservedSlots(context, reserved)
    const slotCount = named[0]?.length ?? 0
    const fromOffset = integer('fromOffset', options.fromOffset ?? 0, 0, slotCount)
    const most = slotCount - fromOffset
    const blockCount = integer('blockCount', options.blockCount ?? most, 0, most)
    const from = named.map((slots) => slots.subarray(fromOffset, fromOffset + blockCount))
    this.#checkWhole(firstBlock, blockCount)
    const after = captureFences(context, 'after', fences)
    reserved?.claim(fromOffset, this.#hashes, firstBlock, blockCount)
    const giveBack = reserved?.use() ?? takeBorrowed(context, from, false)
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = this.#active.add(control)
    const { tenant, priority, ttlMs } = this.#meta
    const expiresAtS = expiryAfter(context, ttlMs)
    const plan = {
      hashes: this.#hashes,
      firstBlock,
      blockCount,
      from,
      until,
      meta: { tenant, priority, expiresAtS },
      after,
      reserved,
      fromOffset,
    } as const
    return startTransfer(
      control,
      (running) => runOffload(context, plan, running),
      () => {
        giveBack()
        forget()
      },
    )
  }

  #checkWhole(firstBlock: number, blockCount: number): void {
    if (blockCount === 0) {
      throw new KvError('ERR_KV_NO_WHOLE_BLOCK', 'An offload of no blocks was asked for; name a slot for each block.')
    }
    if (firstBlock + blockCount > this.blockCount) {
      throw new KvError(
        'ERR_KV_NO_WHOLE_BLOCK',
        `Blocks ${firstBlock} to ${firstBlock + blockCount - 1} were to be offloaded, but the sequence's ${this.tokenCount} ` +
          `tokens make ${this.blockCount} whole blocks of ${this.#context.tokensPerBlock}.`,
      )
    }
  }
}

/** Throws ERR_KV_INVALID_TYPE unless `value` is a sequence. */
export function checkSequence(value: unknown): asserts value is Sequence {
  if (!(value instanceof Sequence)) invalidType('sequence', 'a sequence, from manager.sequence()', value)
}

/** A deadline and a signal out of a call's options. */
export function checkLimits(given: Record<string, unknown>): TransferLimits {
  const { signal, deadlineMs } = given
  if (signal !== undefined && !(signal instanceof AbortSignal)) invalidType('signal', 'an AbortSignal', signal)
  return {
    signal,
    deadlineMs: deadlineMs === undefined ? undefined : integer('deadlineMs', deadlineMs, 0, ALL),
  }
}

/** Whether kvtier accounts the device slots; throws where there is no device memory at all. */
export function deviceIsOwned(context: MovementContext): boolean {
  const first = context.groups[0]
  if (first === undefined || first.tiers[DEVICE].storage === null) {
    throw new KvError(
      'ERR_KV_UNSUPPORTED',
      'The manager was opened without device memory; use manager.host, or open it with a `device`.',
    )
  }
  return first.tiers[DEVICE].accounted
}

function slotsByGroup(context: MovementContext, name: string, value: unknown): Uint32Array[] {
  if (deviceIsOwned(context)) {
    return invalidType(name, 'the reservation that the blocks were computed in (manager.device.reserve)', value)
  }
  const { groups } = context
  if (value instanceof Uint32Array) {
    if (groups.length > 1) {
      const names = groups.map((tiers) => tiers.group.name).join(', ')
      invalidType(name, `an object with slots for each layer group (${names})`, value)
    }
    return [slotArray(name, value)]
  }
  const given = object(name, value)
  const arrays = groups.map((tiers) => slotArray(`${name}.${tiers.group.name}`, given[tiers.group.name]))
  for (const [index, slots] of arrays.entries()) {
    if (slots.length !== arrays[0]?.length) {
      invalidValue(
        `${name}.${groups[index]?.group.name}`,
        `${arrays[0]?.length} slots, as the first group has`,
        slots.length,
      )
    }
  }
  return arrays
}

function reservedSlots(context: MovementContext, reserved: DeviceSlots): Uint32Array[] {
  if (!reserved.isOf(context.groups)) {
    invalidValue('from', 'a reservation of this manager', "another manager's")
  }
  if (reserved.released) {
    throw new KvError('ERR_KV_RELEASED', 'The reservation was released; offload before releasing it.')
  }
  return context.groups.map((tiers) => reserved.slotsOf(tiers.index))
}

/** Marks borrowed slots as in use; owned ones are held by their pins. */
function takeBorrowed(context: MovementContext, slots: readonly Uint32Array[] | null, writes: boolean): () => void {
  if (slots === null) return () => undefined
  const taken: (() => void)[] = []
  const giveBack = (): void => {
    for (const each of taken.splice(0)) each()
  }
  try {
    for (const tiers of context.groups) taken.push(takeGroup(tiers, slots[tiers.index] ?? new Uint32Array(), writes))
  } catch (error) {
    giveBack()
    throw error
  }
  return giveBack
}

function takeGroup(tiers: GroupTiers, slots: Uint32Array, writes: boolean): () => void {
  if (tiers.borrowed === null) return () => undefined
  // A window group need not name slots for blocks outside its window.
  const named = writes && tiers.group.kind === 'full' ? slots : slots.filter((slot) => slot !== NO_SLOT)
  return tiers.borrowed.take(named, writes)
}
