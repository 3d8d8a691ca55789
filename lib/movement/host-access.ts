/**
 * Host memory for callers without device pointers: slots to fill and publish, and held blocks to read, through windows
 * of one block each. Host memory is never exposed whole.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { integer, invalidType, KvError, optionsOf } from '../errors.js'
import { CODE } from '../native/generated.js'
import { DISK, HOST } from '../tiers/types.js'
import {
  BLOCKS_PER_TURN,
  type Displaces,
  expiryAfter,
  findUnexpired,
  type GroupTiers,
  isKept,
  type MovementContext,
  markPending,
  NO_PARENT,
  parentFor,
} from './context.js'

import { NOTHING } from './fence.js'
import { HostReading } from './host-reading.js'
import { HostReservation, type ReservedGroup, writeHeld } from './host-reservation.js'
import { type FirstWanted, firstNeeded, firstStored } from './match.js'
import { runOnboard } from './onboard.js'
import { giveBackRoom, putDown, takeHostRoomFor } from './room.js'
import { type ActiveTransfers, checkLimits, checkSequence, LIMIT_OPTIONS, type Sequence } from './sequence.js'
import { settleThen, TransferControl, type TransferLimits } from './transfer.js'
import { WindowTable } from './windows.js'

/** What `manager.host.reserve` takes. When it is ended early, the reservation has no slots. */
export interface ReserveOptions extends TransferLimits {
  /** First block to fill (default 0); the blocks before it must be held. */
  readonly firstBlock?: number
  /** Blocks to fill (default: up to the sequence's last whole block). */
  readonly blockCount?: number
}

/** What `manager.host.load` takes. */
export interface LoadOptions extends TransferLimits {
  /** Blocks at most (default: all that are held). */
  readonly maxBlocks?: number
  /**
   * First block of a sliding group that should come with a prefix of so many blocks, where that is before its last window;
   * what the prefix needs comes anyway. Called for sliding groups only, and again where the prefix was matched again. What
   * it returns is brought between 0 and the window's first block; NaN asks for nothing.
   *
   * The earlier blocks come, and are held, all or none: where each of them is in host memory or on disk. Where one of them
   * then does not arrive (wrong bytes, a read that failed, no host slot, the deadline), none of them comes: the result is
   * what it is without them, and its `message` says why. Only where another load is bringing one of them is it waited for
   * as for any block: a deadline that is over before that makes every block a miss. Where a needed block fails, those that
   * came besides may be the window of the shorter prefix that is left.
   *
   * @internal
   */
  readonly firstWanted?: FirstWanted
}

const RESERVE_OPTIONS: readonly (keyof ReserveOptions)[] = ['firstBlock', 'blockCount', ...LIMIT_OPTIONS]
const LOAD_OPTIONS: readonly (keyof LoadOptions)[] = ['maxBlocks', 'firstWanted', ...LIMIT_OPTIONS]

/** `manager.host`. */
export class HostAccess {
  readonly #context: MovementContext
  readonly #active: ActiveTransfers
  readonly #windows: WindowTable
  readonly #held = new Set<{ release(): void }>()
  #ended = false

  /** @internal */
  constructor(context: MovementContext, active: ActiveTransfers) {
    this.#context = context
    this.#active = active
    this.#windows = new WindowTable(context.binding)
  }

  /**
   * Takes host slots for blocks of a sequence that are in no tier, writing others to disk where that makes room. Groups
   * with a window or a state get slots only for what is needed at the end of the reserved blocks.
   *
   * @returns a reservation; fill its windows, then `publish`. Blocks for which there was no slot, in time or at all, are
   * not needed, and misses when it is published
   * @throws KvError ERR_KV_CLOSED; ERR_KV_NO_WHOLE_BLOCK; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the argument
   */
  async reserve(sequence: Sequence, options: ReserveOptions = {}): Promise<HostReservation> {
    const context = this.#context
    context.checkOpen()
    checkSequence(sequence)
    const given = optionsOf('options', options, RESERVE_OPTIONS)
    const limits = checkLimits(given)
    const firstBlock = integer('firstBlock', given.firstBlock ?? 0, 0)
    const blockCount = integer('blockCount', given.blockCount ?? Math.max(0, sequence.blockCount - firstBlock), 0)
    if (blockCount === 0 || firstBlock + blockCount > sequence.blockCount) {
      throw new KvError(
        'ERR_KV_NO_WHOLE_BLOCK',
        `${blockCount} blocks from block ${firstBlock} were to be reserved; the sequence has ${sequence.blockCount} whole blocks.`,
      )
    }
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = this.#active.add(control)
    try {
      const taken = await this.#takeGroups(sequence, firstBlock, blockCount, control)
      const reservation: HostReservation = new HostReservation({
        context,
        sequence,
        firstBlock,
        groups: taken.groups,
        windows: this.#windows,
        active: this.#active,
        end: () => {
          this.#held.delete(reservation)
          for (const end of taken.ends) end()
        },
      })
      this.#held.add(reservation)
      if (this.#ended) {
        reservation.release()
        context.checkOpen()
      }
      return reservation
    } finally {
      void settleThen(control, forget)
    }
  }

  /** Slots of every layer group, or of none when `control` ended it meanwhile. */
  async #takeGroups(
    sequence: Sequence,
    firstBlock: number,
    count: number,
    control: TransferControl,
  ): Promise<{ groups: ReservedGroup[]; ends: (() => void)[] }> {
    const { groups } = this.#context
    const prepared = sequence.prepare()
    control.settleAfter(prepared.catch(() => undefined))
    const taken: ReservedGroup[] = []
    const ends: (() => void)[] = []
    let whole = false
    try {
      if (await control.wait(prepared)) {
        for (const tiers of groups)
          taken.push(await this.#reserveGroup(tiers, sequence, firstBlock, count, control, ends))
      }
      whole = control.code === null
    } finally {
      if (!whole) {
        for (const [index, { entries }] of taken.entries()) {
          for (const entry of entries) if (entry >= 0) groups[index]?.blocks.abandon(entry, HOST)
        }
        for (const end of ends) end()
      }
    }
    if (whole) return { groups: taken, ends }
    const reasons = new Uint8Array(count).fill(CODE[control.code ?? 'ERR_KV_ABORTED'])
    return { groups: groups.map(() => ({ entries: new Int32Array(count).fill(-1), reasons })), ends: [] }
  }

  async #reserveGroup(
    tiers: GroupTiers,
    sequence: Sequence,
    firstBlock: number,
    count: number,
    control: TransferControl,
    ends: (() => void)[],
  ): Promise<ReservedGroup> {
    const context = this.#context
    const { blocks } = tiers
    const { hashes, meta } = sequence
    const entries = new Int32Array(count).fill(-1)
    const reasons = new Uint8Array(count)
    const missing: number[] = []
    const isMissing = (i: number): boolean => {
      const entry = findUnexpired(context, tiers, hashes.words, firstBlock + i)
      return entry < 0 || !(isKept(tiers, entry) || blocks.slotOf(entry, HOST) >= 0)
    }
    for (let i = firstStored(context, tiers, firstBlock, count, context.leaveLastBlock); i < count; i++) {
      if (isMissing(i)) missing.push(i)
    }
    // Before others make room: behind a block that is in no tier nothing can be stored.
    const [first] = missing
    const lost = first !== undefined && parentFor(tiers, hashes.words, firstBlock + first) === NO_PARENT
    const slots = lost ? [] : await takeHostRoomFor(context, tiers, missing.length, meta.tenant, control)
    if (slots === null) return { entries, reasons }
    putDown(tiers, meta.tenant, slots.length)
    const expiresAtS = expiryAfter(context, meta.ttlMs)
    let used = 0
    for (const i of missing) {
      if (!isMissing(i)) continue
      const at = firstBlock + i
      const parent = parentFor(tiers, hashes.words, at)
      const slot = parent === NO_PARENT ? undefined : slots[used]
      if (slot === undefined) {
        const full = blocks.isOverQuota(meta.tenant, HOST) ? 'ERR_KV_OVER_QUOTA' : 'ERR_KV_OUT_OF_BLOCKS'
        // Of a run that found no slot, the first says why and so do the others.
        reasons[i] = reasons[i - 1] || CODE[parent === NO_PARENT ? 'ERR_KV_PARENT_LOST' : full]
        continue
      }
      const { tenant, priority } = meta
      entries[i] = blocks.begin(hashes.words, at, parent, { tenant, priority, expiresAtS, depth: at })
      blocks.assign(entries[i] ?? -1, HOST, slot)
      used++
    }
    giveBackRoom(tiers, HOST, slots.slice(used))
    const begun = [...entries].filter((entry) => entry >= 0)
    ends.push(markPending(context, tiers, begun))
    return { entries, reasons }
  }

  /**
   * Brings the longest held prefix of a sequence into host memory and holds it there.
   *
   * @returns what can be read; release it when done
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the argument
   */
  async load(sequence: Sequence, options: LoadOptions = {}): Promise<HostReading> {
    const context = this.#context
    context.checkOpen()
    checkSequence(sequence)
    const limits = checkLimits(optionsOf('options', options, LOAD_OPTIONS))
    const maxBlocks = integer('maxBlocks', options.maxBlocks ?? 0x7fffffff, 0)
    const { firstWanted } = options
    if (firstWanted !== undefined && typeof firstWanted !== 'function') {
      invalidType('firstWanted', 'a function', firstWanted)
    }
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = this.#active.add(control)
    let release: () => void = () => undefined
    let entries: readonly Int32Array[] = []
    try {
      const result = await runOnboard(
        context,
        {
          hashes: sequence.hashes,
          into: null,
          to: 'host',
          maxBlocks,
          leaveLast: context.leaveLastBlock,
          firstWanted,
          tenant: sequence.meta.tenant,
          after: NOTHING,
          ready: null,
          keepPins: (end, found) => {
            release = end
            entries = found
          },
        },
        control,
      )
      const reading: HostReading = new HostReading(context, result, entries, this.#windows, this.#active, () => {
        this.#held.delete(reading)
        release()
      })
      this.#held.add(reading)
      if (this.#ended) {
        reading.release()
        context.checkOpen()
      }
      return reading
    } finally {
      void settleThen(control, forget)
    }
  }

  /**
   * Writes to disk what host memory holds of a sequence, part by part.
   *
   * @internal
   * @param displaces - what may leave a full disk for it
   * @returns the tokens from the start that would survive a kill -9, and why not more, or an empty message
   */
  async persist(
    sequence: Sequence,
    displaces: Displaces,
    limits: TransferLimits,
  ): Promise<{ readonly tokens: number; readonly message: string }> {
    const context = this.#context
    context.checkOpen()
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = this.#active.add(control)
    try {
      await sequence.prepare()
      const { words } = sequence.hashes
      const { blockCount } = sequence
      let message = ''
      for (let at = 0; at < blockCount; at += BLOCKS_PER_TURN) {
        const count = Math.min(BLOCKS_PER_TURN, blockCount - at)
        const reasons = await Promise.all(
          context.groups.map((tiers) => writeHeld(context, tiers, words, at, count, displaces, control)),
        )
        message ||= reasons.find((reason) => reason !== '') ?? ''
        // Making what was written visible was enough for one turn.
        await nextTurn()
      }
      return { tokens: tokensOnDisk(context, words, blockCount), message }
    } finally {
      void settleThen(control, forget)
    }
  }

  /**
   * Gives up what is held of a sequence, in every tier: blocks that were only for trying something out.
   *
   * @internal
   */
  forget(sequence: Sequence): void {
    const { hashes } = sequence
    for (const { blocks } of this.#context.groups) {
      for (let i = 0; i < hashes.hashedCount; i++) {
        const entry = blocks.find(hashes.words, i)
        if (entry >= 0) blocks.drop(entry)
      }
    }
  }

  /** @internal Ends every reservation and reading, also those that are still on their way; for close. */
  releaseAll(): void {
    this.#ended = true
    for (const each of [...this.#held]) each.release()
  }
}

/** Tokens from the start of which the disk holds everything that is needed. */
function tokensOnDisk(context: MovementContext, words: Uint32Array, blockCount: number): number {
  const { groups, tokensPerBlock } = context
  const firstMissing = ({ blocks }: GroupTiers, from: number, to: number): number => {
    for (let i = from; i < to; i++) {
      const entry = blocks.find(words, i)
      if (entry < 0 || !blocks.holds(entry, DISK)) return i
    }
    return to
  }
  let most = blockCount
  for (const tiers of groups) if (tiers.blocks.prefixClosed) most = firstMissing(tiers, 0, most)
  for (; most > 0; most--) {
    const isWhole = (tiers: GroupTiers): boolean =>
      tiers.blocks.prefixClosed || firstMissing(tiers, firstNeeded(tiers, most, tokensPerBlock), most) === most
    if (groups.every(isWhole)) break
  }
  return most * tokensPerBlock
}
