/**
 * Host slots in the caller's hands to be filled: nothing in them can be found before they are published.
 */
import { type ErrorCode, invalidValue, isKvError, KvError, optionsOf } from '../errors.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import {
  type Displaces,
  expiryAfter,
  type GroupTiers,
  groupNamed,
  hashBytes,
  isKept,
  type MovementContext,
  storageOf,
} from './context.js'
import { firstStored, heldTokens } from './match.js'
import { type BatchOutcomes, type NativeBatch, startBatch } from './native-batch.js'
import { checkUntil } from './offload.js'
import { type ActiveTransfers, checkLimits, LIMIT_OPTIONS, type Sequence } from './sequence.js'
import { Outcomes, settleThen, TransferControl, type TransferLimits, type TransferResult } from './transfer.js'
import { TRANSFERRED_AWAY, Windows, type WindowTable } from './windows.js'

/** Host slots of one layer group that a connector has native code fill or read. */
export interface HeldSlots {
  readonly tiers: GroupTiers
  /** Blocks, counted from the reservation's (or the sequence's) first. */
  readonly positions: readonly number[]
  /** The slot of each. */
  readonly slots: Uint32Array
}

/** What `publish` does besides. */
export interface PublishOptions extends TransferLimits {
  /** `disk`: resolve when the blocks would survive a kill -9 (default `host`). */
  readonly until?: 'host' | 'disk'
}

const PUBLISH_OPTIONS: readonly (keyof PublishOptions)[] = ['until', ...LIMIT_OPTIONS]

/** What a reservation has of one layer group, by position. */
export interface ReservedGroup {
  /** The reserved entry; -1 where the block is held already, is not needed or has no slot. */
  readonly entries: Int32Array
  /** Why the block has no slot, as a number of the code list; 0 where it needs none. */
  readonly reasons: Uint8Array
}

/** What a {@link HostReservation} is made from. */
interface ReservationParts {
  readonly context: MovementContext
  readonly sequence: Sequence
  readonly firstBlock: number
  readonly groups: readonly ReservedGroup[]
  readonly windows: WindowTable
  readonly active: ActiveTransfers
  /** Called when the slots are the reservation's no more. */
  readonly end: () => void
}

/**
 * Writes to disk what is held, and not there yet, of a layer group's blocks.
 *
 * @returns why blocks are not on disk, if some are not; empty when all are
 */
export async function writeHeld(
  context: MovementContext,
  tiers: GroupTiers,
  words: Uint32Array,
  firstBlock: number,
  blockCount: number,
  displaces: Displaces,
  control: TransferControl,
): Promise<string> {
  const entries: number[] = []
  for (let i = 0; i < blockCount; i++) {
    const entry = tiers.blocks.find(words, firstBlock + i)
    if (entry >= 0 && isKept(tiers, entry) && !tiers.blocks.holds(entry, DISK)) entries.push(entry)
  }
  if (entries.length === 0) return ''
  const late = (): string => `${control.code} before the blocks were on disk`
  if (control.code !== null) return late()
  const writing = context.diskWriter.write(tiers, entries, displaces)
  control.settleAfter(writing)
  const inTime = await control.wait(writing)
  return inTime ? (await writing).message : late()
}

/** Host slots that the caller fills: nothing in them can be found before `publish`. */
export class HostReservation {
  /** Blocks by position: those held already need not be filled. */
  readonly blockCount: number
  readonly firstBlock: number
  readonly #parts: ReservationParts
  readonly #windows: Windows
  #over = false
  #published = 0
  #fillings = 0
  #releaseLater = false

  /** @internal */
  constructor(parts: ReservationParts) {
    this.#parts = parts
    this.#windows = new Windows(parts.windows)
    this.firstBlock = parts.firstBlock
    this.blockCount = parts.groups[0]?.entries.length ?? 0
  }

  /**
   * Blocks, of all layer groups, that `publish` made visible.
   *
   * @internal
   */
  get published(): number {
    return this.#published
  }

  /**
   * Whether block `position` (from `firstBlock`) waits to be filled; false where it is held already, where it found no
   * slot, and where a group with a window or a state does not need it.
   */
  needs(position: number, group?: string): boolean {
    return this.#entryOf(groupNamed(this.#parts.context, group), position) >= 0
  }

  /**
   * The bytes of a block that waits to be filled, in canonical order: part, layer, K or V, token. Detached when the
   * reservation ends. Its buffer must not be transferred away (`ArrayBuffer.prototype.transfer`): such a block is not
   * published, its outcome is ERR_KV_DETACHED_ARRAY, and its slot is out of use until the manager is closed.
   *
   * @throws KvError ERR_KV_RELEASED; ERR_KV_INVALID_VALUE when the position does not wait to be filled;
   * ERR_KV_DETACHED_ARRAY when its window was transferred away
   */
  window(position: number, group?: string): Uint8Array {
    this.#checkOpen()
    const tiers = groupNamed(this.#parts.context, group)
    const entry = this.#entryOf(tiers, position)
    if (entry < 0) invalidValue('position', 'one for which needs() is true', position)
    return this.#windows.open(tiers, tiers.blocks.slotOf(entry, HOST))
  }

  /**
   * Makes the checksums and then the blocks visible. The windows are detached. Every block that waited must have been
   * filled.
   *
   * @returns the outcome of every position
   * @throws KvError ERR_KV_RELEASED, ERR_KV_CLOSED; ERR_KV_UNSUPPORTED for `until: 'disk'` without a disk tier;
   * ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the option. The reservation can be published again then, unless it
   * was before
   */
  async publish(options: PublishOptions = {}): Promise<TransferResult> {
    const { context, active, end, sequence } = this.#parts
    this.#checkOpen()
    context.checkOpen()
    const given = optionsOf('options', options, PUBLISH_OPTIONS)
    const limits = checkLimits(given)
    const until = checkUntil(context, given.until)
    this.#over = true
    const outcomes = new Outcomes(this.blockCount)
    this.#closeWindows(outcomes)
    const control = new TransferControl(context.completions, limits, limits.deadlineMs ?? context.deadlineMs)
    const forget = active.add(control)
    try {
      await Promise.all(context.groups.map((tiers) => this.#publishGroup(tiers, outcomes, control)))
      if (until === 'disk') await Promise.all(context.groups.map((tiers) => this.#writeGroup(tiers, outcomes, control)))
      for (const tiers of context.groups) this.#report(tiers, outcomes)
      outcomes.placeUnneeded()
      const { words } = sequence.hashes
      const tokens = heldTokens(context, words, this.firstBlock, outcomes.run, this.blockCount)
      return outcomes.result(tokens, null, until === 'disk' ? DISK : DEVICE)
    } finally {
      void settleThen(control, () => {
        end()
        forget()
      })
    }
  }

  /**
   * Has native code fill what waits to be filled. A release meanwhile, also that of a manager which is being closed, takes
   * effect when `work` has ended.
   *
   * @internal
   * @throws KvError ERR_KV_RELEASED; what `work` threw
   */
  async fill<T>(work: (waiting: readonly HeldSlots[]) => Promise<T>): Promise<T> {
    this.#checkOpen()
    const { active, context } = this.#parts
    const control = new TransferControl(context.completions, {}, 0)
    const forget = active.add(control)
    this.#fillings++
    try {
      return await work(context.groups.map((tiers) => this.#waiting(tiers)))
    } finally {
      this.#fillings--
      if (this.#releaseLater && this.#fillings === 0) this.release()
      forget()
    }
  }

  /**
   * Gives up blocks that nobody will fill: misses with `code`, and their slots are free.
   *
   * @internal
   */
  giveUp(tiers: GroupTiers, positions: Iterable<number>, code: ErrorCode): void {
    const entries = this.#entriesOf(tiers)
    const reasons = this.#parts.groups[tiers.index]?.reasons
    for (const position of positions) {
      const entry = entries[position] ?? -1
      if (entry < 0) continue
      tiers.blocks.abandon(entry, HOST)
      entries[position] = -1
      if (reasons !== undefined) reasons[position] = CODE[code]
    }
  }

  #waiting(tiers: GroupTiers): HeldSlots {
    const entries = this.#entriesOf(tiers)
    const positions = [...entries.keys()].filter((i) => (entries[i] ?? -1) >= 0)
    return { tiers, positions, slots: Uint32Array.from(positions, (i) => tiers.blocks.slotOf(entries[i] ?? -1, HOST)) }
  }

  /** Gives the slots back unused. Does nothing after `publish`. */
  release(): void {
    if (this.#over) return
    if (this.#fillings > 0) {
      this.#releaseLater = true
      return
    }
    this.#over = true
    this.#closeWindows(null)
    for (const tiers of this.#parts.context.groups) {
      for (const entry of this.#entriesOf(tiers)) if (entry >= 0) tiers.blocks.abandon(entry, HOST)
    }
    this.#parts.end()
  }

  [Symbol.dispose](): void {
    this.release()
  }

  #checkOpen(): void {
    if (this.#over) throw new KvError('ERR_KV_RELEASED', 'The reservation was published or released before.')
  }

  /** Detaches the windows. Into a slot whose window was transferred away somebody may still write: it has no block any more. */
  #closeWindows(outcomes: Outcomes | null): void {
    for (const { tiers, slot } of this.#windows.closeAll()) {
      const entries = this.#entriesOf(tiers)
      const position = entries.indexOf(tiers.blocks.entryAt(HOST, slot))
      if (position < 0) continue
      // The slot stays filling and nobody's.
      tiers.blocks.unassign(entries[position] ?? -1, HOST)
      entries[position] = -1
      outcomes?.fail(position, 'ERR_KV_DETACHED_ARRAY', TRANSFERRED_AWAY)
    }
  }

  #entriesOf(tiers: GroupTiers): Int32Array {
    return this.#parts.groups[tiers.index]?.entries ?? new Int32Array()
  }

  #entryOf(tiers: GroupTiers, position: number): number {
    return this.#entriesOf(tiers)[position] ?? -1
  }

  async #publishGroup(tiers: GroupTiers, outcomes: Outcomes, control: TransferControl): Promise<void> {
    const entries = this.#entriesOf(tiers)
    const positions = [...entries.keys()].filter((i) => (entries[i] ?? -1) >= 0)
    for (let at = 0; at < positions.length; at += LIMITS.maxBlocksPerTransfer) {
      await this.#sealBatch(tiers, positions.slice(at, at + LIMITS.maxBlocksPerTransfer), outcomes, control)
    }
  }

  async #sealBatch(
    tiers: GroupTiers,
    positions: readonly number[],
    outcomes: Outcomes,
    control: TransferControl,
  ): Promise<void> {
    const { blocks } = tiers
    const { context, sequence } = this.#parts
    const slots = Uint32Array.from(positions, (i) => blocks.slotOf(this.#entryOf(tiers, i), HOST))
    const hashes = hashBytes(
      sequence.hashes.words,
      positions.map((i) => this.firstBlock + i),
    )
    let native: NativeBatch
    try {
      native = startBatch(context.completions, positions.length, (ticket) =>
        context.binding.startSeal(ticket, storageOf(tiers, HOST), slots, hashes),
      )
    } catch (error) {
      for (const i of positions) {
        blocks.abandon(this.#entryOf(tiers, i), HOST)
        const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
        outcomes.fail(i, code, error instanceof Error ? error.message : '')
      }
      context.counters.transferFailures += positions.length
      return
    }
    const published = native.done.then((done) => this.#publishSealed(tiers, positions, done, outcomes, control))
    // Slots of what failed are filling until native code has let go of them.
    const settled = Promise.all([published, native.settled]).then(([failed]) => {
      for (const entry of failed) blocks.abandon(entry, HOST)
    })
    control.adopt(native.ticket, settled)
    await published
  }

  /** Makes visible what was sealed; the entries of the others. */
  #publishSealed(
    tiers: GroupTiers,
    positions: readonly number[],
    { codes, message }: BatchOutcomes,
    outcomes: Outcomes,
    control: TransferControl,
  ): number[] {
    const { counters, events } = this.#parts.context
    const failed: number[] = []
    positions.forEach((i, at) => {
      const entry = this.#entryOf(tiers, i)
      const code = codes[at] ?? CODE.ERR_KV_INTERNAL
      if (code === CODE.OK && tiers.blocks.publish(entry, HOST)) return
      failed.push(entry)
      const why = ERROR_CODES[code]
      outcomes.fail(i, why === 'OK' || why === undefined ? 'ERR_KV_PARENT_LOST' : why, message)
    })
    const stored = positions.length - failed.length
    this.#published += stored
    counters.offloadedToHost += stored
    counters.offloadedBytes += stored * tiers.blockBytes
    if (control.code !== null) counters.abandoned += failed.length
    outcomes.bytes += stored * tiers.blockBytes
    if (stored > 0) events.emit('stored', { tier: 'host', blocks: stored, group: tiers.group.name })
    return failed
  }

  #heldEntry(tiers: GroupTiers, position: number): number {
    const { hashes } = this.#parts.sequence
    const at = this.firstBlock + position
    // A reservation that was ended early may have come before the hashes.
    const entry = at < hashes.hashedCount ? tiers.blocks.find(hashes.words, at) : -1
    return entry >= 0 && isKept(tiers, entry) ? entry : -1
  }

  async #writeGroup(tiers: GroupTiers, outcomes: Outcomes, control: TransferControl): Promise<void> {
    const { context, sequence } = this.#parts
    const { hashes } = sequence
    const count = Math.max(0, Math.min(this.blockCount, hashes.hashedCount - this.firstBlock))
    outcomes.note(await writeHeld(context, tiers, hashes.words, this.firstBlock, count, 'any', control))
  }

  /** The votes of a group for every outcome. */
  #report(tiers: GroupTiers, outcomes: Outcomes): void {
    const { context, sequence, groups } = this.#parts
    const { priority, ttlMs } = sequence.meta
    const first = firstStored(context, tiers, this.firstBlock, this.blockCount, context.leaveLastBlock)
    for (let i = first; i < this.blockCount; i++) {
      const entry = this.#heldEntry(tiers, i)
      if (entry < 0) {
        const reason = ERROR_CODES[groups[tiers.index]?.reasons[i] ?? 0] ?? 'OK'
        if (reason === 'OK' || reason === 'ERR_KV_PARENT_LOST')
          outcomes.fail(i, 'ERR_KV_PARENT_LOST', `Block ${this.firstBlock + i}, or one before it, is not held.`)
        else outcomes.fail(i, reason, `There was no host slot for block ${this.firstBlock + i}: ${reason}`)
        continue
      }
      if (this.#entryOf(tiers, i) < 0) tiers.blocks.extend(entry, priority, expiryAfter(context, ttlMs))
      outcomes.succeed(i, tiers.blocks.holds(entry, DISK) ? DISK : HOST, Math.min)
    }
  }
}
