/**
 * Host memory for callers without device pointers: slots to fill and publish, and held blocks to read, through windows
 * of one block each. Host memory is never exposed whole.
 */
import { integer, invalidValue, isKvError, KvError, object } from '../errors.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { DISK, HOST } from '../tiers/types.js'
import {
  findUnexpired,
  type GroupTiers,
  hashBytes,
  isKept,
  type MovementContext,
  markPending,
  nowSeconds,
  storageOf,
} from './context.js'
import { fence } from './fence.js'
import { heldTokens } from './match.js'
import { type NativeBatch, startBatch } from './native-batch.js'
import { runOnboard } from './onboard.js'
import { giveBackRoom, putDown, takeHostRoom } from './room.js'
import { type ActiveTransfers, checkLimits, type Sequence } from './sequence.js'
import { Outcomes, TransferControl, type TransferLimits, type TransferResult } from './transfer.js'
import { Windows, WindowTable } from './windows.js'

/** What `manager.host.reserve` takes. */
export interface ReserveOptions {
  /** First block to fill (default 0); the blocks before it must be held. */
  readonly firstBlock?: number
  /** Blocks to fill (default: up to the sequence's last whole block). */
  readonly blockCount?: number
}

/** What `publish` does besides. */
export interface PublishOptions {
  /** `disk`: resolve when the blocks would survive a kill -9 (default `host`). */
  readonly until?: 'host' | 'disk'
}

function groupOf(context: MovementContext, name: string | undefined): GroupTiers {
  const only = context.groups.length === 1 ? context.groups[0] : undefined
  const tiers = name === undefined ? only : context.groups.find((each) => each.group.name === name)
  if (tiers !== undefined) return tiers
  const names = context.groups.map((each) => each.group.name).join(', ')
  return invalidValue('group', `the name of a layer group (${names})`, name)
}

/** Host slots that the caller fills: nothing in them can be found before `publish`. */
export class HostReservation {
  /** Blocks by position: those held already need not be filled. */
  readonly blockCount: number
  readonly firstBlock: number
  readonly #context: MovementContext
  readonly #sequence: Sequence
  readonly #windows: Windows
  /** By group: the reserved entry of each position, -1 where the block is held already or has no slot. */
  readonly #entries: readonly Int32Array[]
  readonly #end: () => void
  #over = false

  /** @internal */
  constructor(
    context: MovementContext,
    sequence: Sequence,
    firstBlock: number,
    entries: readonly Int32Array[],
    windows: WindowTable,
    end: () => void,
  ) {
    this.#context = context
    this.#sequence = sequence
    this.#windows = new Windows(windows)
    this.#entries = entries
    this.#end = end
    this.firstBlock = firstBlock
    this.blockCount = entries[0]?.length ?? 0
  }

  /** Whether block `position` (from `firstBlock`) waits to be filled; false where it is held already or found no slot. */
  needs(position: number, group?: string): boolean {
    const tiers = groupOf(this.#context, group)
    return (this.#entries[tiers.index]?.[position] ?? -1) >= 0
  }

  /**
   * The bytes of a block that waits to be filled, in canonical order: part, layer, K or V, token. Detached when the
   * reservation ends.
   *
   * @throws KvError ERR_KV_RELEASED; ERR_KV_INVALID_VALUE when the position does not wait to be filled
   */
  window(position: number, group?: string): Uint8Array {
    this.#checkOpen()
    const tiers = groupOf(this.#context, group)
    const entry = this.#entries[tiers.index]?.[position] ?? -1
    if (entry < 0) invalidValue('position', 'one for which needs() is true', position)
    return this.#windows.open(tiers, tiers.blocks.slotOf(entry, HOST))
  }

  /**
   * Makes the checksums and then the blocks visible. The windows are detached. Every block that waited must have been
   * filled.
   *
   * @returns the outcome of every position
   * @throws KvError ERR_KV_RELEASED, ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the option
   */
  async publish(options: PublishOptions = {}): Promise<TransferResult> {
    this.#checkOpen()
    this.#context.checkOpen()
    const until = object('options', options).until ?? 'host'
    if (until !== 'host' && until !== 'disk') invalidValue('until', "'host' or 'disk'", until)
    this.#over = true
    this.#windows.closeAll()
    const outcomes = new Outcomes(this.blockCount)
    try {
      await Promise.all(this.#context.groups.map((tiers) => this.#publishGroup(tiers, outcomes)))
      if (until === 'disk') await Promise.all(this.#context.groups.map((tiers) => this.#writeGroup(tiers)))
      this.#report(outcomes)
    } finally {
      this.#end()
    }
    const { words } = this.#sequence.hashes
    return outcomes.result(heldTokens(this.#context, words, this.firstBlock, outcomes.run, this.blockCount), null)
  }

  /** Gives the slots back unused. Does nothing after `publish`. */
  release(): void {
    if (this.#over) return
    this.#over = true
    this.#windows.closeAll()
    for (const tiers of this.#context.groups) {
      for (const entry of this.#entries[tiers.index] ?? []) if (entry >= 0) tiers.blocks.abandon(entry, HOST)
    }
    this.#end()
  }

  [Symbol.dispose](): void {
    this.release()
  }

  #checkOpen(): void {
    if (this.#over) throw new KvError('ERR_KV_RELEASED', 'The reservation was published or released before.')
  }

  async #publishGroup(tiers: GroupTiers, outcomes: Outcomes): Promise<void> {
    const entries = this.#entries[tiers.index] ?? new Int32Array()
    const positions = [...entries.keys()].filter((i) => (entries[i] ?? -1) >= 0)
    for (let at = 0; at < positions.length; at += LIMITS.maxBlocksPerTransfer) {
      await this.#sealBatch(tiers, positions.slice(at, at + LIMITS.maxBlocksPerTransfer), entries, outcomes)
    }
  }

  async #sealBatch(
    tiers: GroupTiers,
    positions: readonly number[],
    entries: Int32Array,
    outcomes: Outcomes,
  ): Promise<void> {
    const { blocks } = tiers
    const context = this.#context
    const slots = Uint32Array.from(positions, (i) => blocks.slotOf(entries[i] ?? -1, HOST))
    const hashes = hashBytes(
      this.#sequence.hashes.words,
      positions.map((i) => this.firstBlock + i),
    )
    let native: NativeBatch
    try {
      native = startBatch(context.completions, positions.length, (ticket) =>
        context.binding.startSeal(ticket, storageOf(tiers, HOST), slots, hashes),
      )
    } catch (error) {
      for (const i of positions) {
        blocks.abandon(entries[i] ?? -1, HOST)
        const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
        outcomes.fail(i, code, error instanceof Error ? error.message : '')
      }
      context.counters.transferFailures += positions.length
      return
    }
    const { codes, message } = await native.done
    await native.settled
    let stored = 0
    positions.forEach((i, at) => {
      const entry = entries[i] ?? -1
      const code = codes[at] ?? CODE.ERR_KV_INTERNAL
      if (code === CODE.OK && blocks.publish(entry, HOST)) {
        stored++
        return
      }
      blocks.abandon(entry, HOST)
      const why = ERROR_CODES[code]
      outcomes.fail(i, why === 'OK' || why === undefined ? 'ERR_KV_PARENT_LOST' : why, message)
    })
    context.counters.offloadedToHost += stored
    context.counters.offloadedBytes += stored * tiers.blockBytes
    outcomes.bytes += stored * tiers.blockBytes
    if (stored > 0) context.events.emit('stored', { tier: 'host', blocks: stored, group: tiers.group.name })
  }

  #heldEntry(tiers: GroupTiers, position: number): number {
    const entry = tiers.blocks.find(this.#sequence.hashes.words, this.firstBlock + position)
    return entry >= 0 && isKept(tiers, entry) ? entry : -1
  }

  async #writeGroup(tiers: GroupTiers): Promise<void> {
    const entries: number[] = []
    for (let i = 0; i < this.blockCount; i++) {
      const entry = this.#heldEntry(tiers, i)
      if (entry >= 0 && !tiers.blocks.holds(entry, DISK)) entries.push(entry)
    }
    if (entries.length > 0 && tiers.tiers[DISK].storage !== null)
      await this.#context.diskWriter.write(tiers, entries, 'any')
  }

  #report(outcomes: Outcomes): void {
    for (const tiers of this.#context.groups) {
      for (let i = 0; i < this.blockCount; i++) {
        const entry = this.#heldEntry(tiers, i)
        if (entry < 0) {
          const overQuota = tiers.blocks.isOverQuota(this.#sequence.meta.tenant, HOST)
          const code = overQuota ? 'ERR_KV_OVER_QUOTA' : 'ERR_KV_OUT_OF_BLOCKS'
          outcomes.fail(i, code, 'The host tier had no slot for the block.')
        } else outcomes.succeed(i, tiers.blocks.holds(entry, DISK) ? DISK : HOST, Math.min)
      }
    }
  }
}

/** Blocks held in host memory for the caller to read. */
export class HostReading {
  /** The outcome of the load: `tokens` is how much of the prompt can be read. */
  readonly result: TransferResult
  readonly #context: MovementContext
  readonly #windows: Windows
  readonly #entries: readonly Int32Array[]
  readonly #end: () => void
  #over = false

  /** @internal */
  constructor(
    context: MovementContext,
    result: TransferResult,
    entries: readonly Int32Array[],
    windows: WindowTable,
    end: () => void,
  ) {
    this.#context = context
    this.#windows = new Windows(windows)
    this.#entries = entries
    this.#end = end
    this.result = result
  }

  /**
   * The bytes of block `index` in canonical order. Not to be written. Detached when the reading is released, or, where
   * other readings look into the same block, with the last of them.
   *
   * @throws KvError ERR_KV_RELEASED; ERR_KV_INVALID_VALUE when the load did not bring the block
   */
  window(index: number, group?: string): Uint8Array {
    if (this.#over) throw new KvError('ERR_KV_RELEASED', 'The reading was released before.')
    const tiers = groupOf(this.#context, group)
    const entry = this.#entries[tiers.index]?.[index] ?? -1
    if (entry < 0 || this.result.code(index) !== 'OK') invalidValue('index', 'a block that the load brought', index)
    return this.#windows.open(tiers, tiers.blocks.slotOf(entry, HOST))
  }

  /** Detaches the windows and lets the blocks be evicted again. */
  release(): void {
    if (this.#over) return
    this.#over = true
    this.#windows.closeAll()
    this.#end()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

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
   * Takes host slots for blocks of a sequence that are in no tier, writing others to disk where that makes room.
   *
   * @returns a reservation; fill its windows, then `publish`
   * @throws KvError ERR_KV_CLOSED; ERR_KV_NO_WHOLE_BLOCK; ERR_KV_INVALID_VALUE
   */
  async reserve(sequence: Sequence, options: ReserveOptions = {}): Promise<HostReservation> {
    const context = this.#context
    context.checkOpen()
    const given = object('options', options)
    const firstBlock = integer('firstBlock', given.firstBlock ?? 0, 0)
    const blockCount = integer('blockCount', given.blockCount ?? Math.max(0, sequence.blockCount - firstBlock), 0)
    if (blockCount === 0 || firstBlock + blockCount > sequence.blockCount) {
      throw new KvError(
        'ERR_KV_NO_WHOLE_BLOCK',
        `${blockCount} blocks from block ${firstBlock} were to be reserved; the sequence has ${sequence.blockCount} whole blocks.`,
      )
    }
    await sequence.prepare()
    const entries: Int32Array[] = []
    const ends: (() => void)[] = []
    for (const tiers of context.groups) {
      entries.push(await this.#reserveGroup(tiers, sequence, firstBlock, blockCount, ends))
    }
    const reservation: HostReservation = new HostReservation(
      context,
      sequence,
      firstBlock,
      entries,
      this.#windows,
      () => {
        this.#held.delete(reservation)
        for (const end of ends) end()
      },
    )
    this.#held.add(reservation)
    if (this.#ended) {
      reservation.release()
      context.checkOpen()
    }
    return reservation
  }

  async #reserveGroup(
    tiers: GroupTiers,
    sequence: Sequence,
    firstBlock: number,
    count: number,
    ends: (() => void)[],
  ): Promise<Int32Array> {
    const { blocks } = tiers
    const { hashes, meta } = sequence
    const missing = (i: number): boolean => {
      const entry = findUnexpired(this.#context, tiers, hashes.words, firstBlock + i)
      return entry < 0 || !(isKept(tiers, entry) || blocks.slotOf(entry, HOST) >= 0)
    }
    let wanted = 0
    for (let i = 0; i < count; i++) if (missing(i)) wanted++
    const slots = await takeHostRoom(this.#context, tiers, wanted, meta.tenant, () => true)
    putDown(tiers, meta.tenant, slots.length)
    const expiresAtS = meta.ttlMs === 0 ? 0 : nowSeconds(this.#context) + Math.max(1, Math.ceil(meta.ttlMs / 1000))
    const entries = new Int32Array(count).fill(-1)
    for (let i = 0; i < count && slots.length > 0; i++) {
      if (!missing(i)) continue
      const at = firstBlock + i
      const parent = blocks.prefixClosed && at > 0 ? blocks.find(hashes.words, at - 1) : -1
      if (blocks.prefixClosed && at > 0 && parent < 0) break
      const entry = blocks.begin(hashes.words, at, parent, { ...meta, expiresAtS, depth: at })
      blocks.assign(entry, HOST, slots.shift() ?? -1)
      entries[i] = entry
    }
    giveBackRoom(tiers, HOST, slots)
    ends.push(
      markPending(
        this.#context,
        tiers,
        [...entries].filter((entry) => entry >= 0),
      ),
    )
    return entries
  }

  /**
   * Brings the longest held prefix of a sequence into host memory and holds it there.
   *
   * @returns what can be read; release it when done
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the option
   */
  async load(sequence: Sequence, options: TransferLimits & { readonly maxBlocks?: number } = {}): Promise<HostReading> {
    const context = this.#context
    context.checkOpen()
    const limits = checkLimits(object('options', options))
    const maxBlocks = integer('maxBlocks', options.maxBlocks ?? 0x7fffffff, 0)
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
          tenant: sequence.meta.tenant,
          after: fence.quiet(),
          keepPins: (end, found) => {
            release = end
            entries = found
          },
        },
        control,
      )
      const reading: HostReading = new HostReading(context, result, entries, this.#windows, () => {
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
      void control.settle().then(forget)
    }
  }

  /** @internal Ends every reservation and reading, also those that are still on their way; for close. */
  releaseAll(): void {
    this.#ended = true
    for (const each of [...this.#held]) each.release()
  }
}
