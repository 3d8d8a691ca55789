/**
 * Writes host blocks to disk: for write-back, for `until: 'disk'` and for flush. The disk tier is kept prefix-closed: a
 * block is written together with the blocks before it that are not on disk yet, and becomes visible there only after
 * them, so that whatever a restart finds can be used.
 */
import { type ErrorCode, isKvError } from '../errors.js'
import { NO_SLOT, RECORD_WORDS } from '../native/binding.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { MiB } from '../options.js'
import { DISK, HOST } from '../tiers/types.js'
import {
  type Displaces,
  evictNow,
  type GroupTiers,
  type HostWriter,
  type MovementContext,
  nowSeconds,
  storageOf,
  type WriteControl,
  type WriteReport,
} from './context.js'
import { type NativeBatch, startBatch } from './native-batch.js'

const OK: WriteReport = { code: 'OK', message: '' }

/** What is written at once at most: the event loop has its turn, and a deadline counts anew, after each part. */
const PART_BLOCKS = Math.min(2_048, LIMITS.maxBlocksPerTransfer)
const PART_BYTES = 256 * MiB

/** One call of {@link DiskWriter.write}. */
interface Writing {
  readonly tiers: GroupTiers
  readonly displaces: Displaces
  readonly control: WriteControl | null
  /** Why it was ended; what is not on disk then stays in host memory only. */
  endedBy: ErrorCode | null
  /** The native batch in flight; 0 = none. */
  ticket: number
}

/** One a manager. Writes of one layer group run one batch after the other; groups run beside each other. */
export class DiskWriter implements HostWriter {
  readonly #queues: Promise<unknown>[] = []
  readonly #writings = new Set<Writing>()
  readonly #context: () => MovementContext

  constructor(context: () => MovementContext) {
    this.#context = context
  }

  /** Resolves when every write that was asked for so far has settled. */
  async idle(): Promise<void> {
    for (let i = 0; i < this.#queues.length; i++) await this.#queues[i]
  }

  /** Ends every write that was asked for so far: what has not arrived stays in host memory only. */
  cancel(code: ErrorCode): void {
    for (const writing of this.#writings) {
      writing.endedBy ??= code
      if (writing.ticket !== 0) this.#context().completions.cancel(writing.ticket, code)
    }
  }

  /**
   * Brings blocks (published in the host tier) and what is missing before them to disk. Those that got there are held by
   * {@link DISK} afterwards; the report says why others are not. Never rejects; resolves when the disk has let go of them.
   *
   * The caller keeps the blocks pinned or leaving in the host tier meanwhile, or does not mind that they leave.
   *
   * @param control - what may end the write; its deadline counts for each part
   */
  write(
    tiers: GroupTiers,
    entries: readonly number[],
    displaces: Displaces,
    control?: WriteControl,
  ): Promise<WriteReport> {
    const writing: Writing = { tiers, displaces, control: control ?? null, endedBy: null, ticket: 0 }
    this.#writings.add(writing)
    const before = this.#queues[tiers.index] ?? Promise.resolve()
    const mine = before
      .then(() => this.#writeAll(writing, entries))
      .finally(() => {
        this.#writings.delete(writing)
      })
    this.#queues[tiers.index] = mine.catch(() => undefined)
    return mine
  }

  async #writeAll(writing: Writing, entries: readonly number[]): Promise<WriteReport> {
    const { tiers, control } = writing
    const partBlocks = Math.max(1, Math.min(PART_BLOCKS, Math.floor(PART_BYTES / tiers.blockBytes)))
    let report = OK
    for (const part of partsOf(missingOf(tiers, entries), partBlocks)) {
      const ended = writing.endedBy ?? control?.code ?? null
      if (ended !== null) return { code: ended, message: `${ended} before the blocks were written to disk` }
      control?.restartDeadline()
      const outcome = await this.#writePart(writing, part)
      if (report.code === 'OK') report = outcome
    }
    return report
  }

  async #writePart(writing: Writing, wanted: readonly Missing[]): Promise<WriteReport> {
    // What is before these blocks on disk must not make room for them: they could not be used without it.
    const { blocks } = writing.tiers
    const before = wanted.map(({ entry }) => blocks.parentOf(entry)).filter((parent) => blocks.holds(parent, DISK))
    for (const parent of before) blocks.pin(parent, DISK)
    try {
      const { batch, report } = this.#takeSlots(writing, wanted)
      if (batch.length === 0) return report
      const outcome = await this.#writeBatch(writing, batch)
      return outcome.code === 'OK' ? report : outcome
    } finally {
      for (const parent of before) blocks.unpin(parent, DISK)
    }
  }

  /** Gives disk slots to as many blocks as can have one; each is pinned in host memory. */
  #takeSlots(writing: Writing, wanted: readonly Missing[]): { batch: Missing[]; report: WriteReport } {
    const { tiers, displaces } = writing
    const { blocks } = tiers
    const batch: Missing[] = []
    let report = OK
    for (const missing of wanted) {
      const { entry, end } = missing
      // A block may have left, been written or been lost while earlier parts ran.
      if (!blocks.holds(entry, HOST) || blocks.slotOf(entry, DISK) >= 0) continue
      const parent = blocks.parentOf(entry)
      if (parent >= 0 && blocks.slotOf(parent, DISK) < 0) continue
      const worth = displaces === 'any' || !blocks.holds(end, HOST) ? null : end
      const slot = takeDiskSlot(this.#context(), tiers, entry, worth)
      if (slot < 0) {
        // The next block may be another tenant's, or worth more.
        if (report.code === 'OK') report = whyNoSlot(slot)
        continue
      }
      blocks.pin(entry, HOST)
      blocks.assign(entry, DISK, slot)
      batch.push(missing)
    }
    return { batch, report }
  }

  /** Writes blocks that have a disk slot, and makes those that arrived visible. */
  async #writeBatch(writing: Writing, batch: readonly Missing[]): Promise<WriteReport> {
    const context = this.#context()
    const { tiers, control } = writing
    const { blocks } = tiers
    let native: NativeBatch
    try {
      native = this.#start(context, tiers, batch)
    } catch (error) {
      for (const { entry } of batch) abandonWrite(tiers, entry)
      return {
        code: isKvError(error) ? error.code : 'ERR_KV_INTERNAL',
        message: error instanceof Error ? error.message : '',
      }
    }
    writing.ticket = native.ticket
    control?.adopt(native.ticket, native.settled)
    const outcomes = await native.done
    let report = OK
    const failed: number[] = []
    batch.forEach(({ entry, end }, i) => {
      const code = outcomes.codes[i] ?? CODE.ERR_KV_INTERNAL
      const parent = blocks.parentOf(entry)
      const usable = parent < 0 || blocks.holds(parent, DISK)
      if (code === CODE.OK && usable && blocks.publish(entry, DISK, 0, lastUseOf(tiers, entry, end))) {
        blocks.unpin(entry, HOST)
        return
      }
      failed.push(entry)
      if (code !== CODE.OK && report.code === 'OK') {
        report = { code: ERROR_CODES[code] ?? 'ERR_KV_INTERNAL', message: outcomes.message }
      }
    })
    this.#count(writing, batch.length - failed.length, failed.length, report)
    await native.settled
    writing.ticket = 0
    for (const entry of failed) abandonWrite(tiers, entry)
    return report
  }

  #count(writing: Writing, written: number, failed: number, report: WriteReport): void {
    const { counters, events } = this.#context()
    const { tiers, control } = writing
    counters.diskWrites += written
    counters.diskWriteBytes += written * tiers.blockBytes
    if (written > 0) events.emit('stored', { tier: 'disk', blocks: written, group: tiers.group.name })
    if (report.code === 'OK') return
    if ((writing.endedBy ?? control?.code ?? null) !== null) {
      counters.abandoned += failed
      return
    }
    counters.transferFailures += failed
    events.emit('tierFailed', { tier: 'disk', code: report.code, message: report.message })
  }

  #start(context: MovementContext, tiers: GroupTiers, batch: readonly Missing[]): NativeBatch {
    const { blocks } = tiers
    const count = batch.length
    const moves = new Uint32Array(count * 3)
    const hashes = new Uint32Array(count * 8)
    const parents = new Uint32Array(count * 8)
    const records = new Uint32Array(count * RECORD_WORDS)
    const nowS = nowSeconds(context)
    batch.forEach(({ entry }, i) => {
      moves.set([blocks.slotOf(entry, HOST), NO_SLOT, blocks.slotOf(entry, DISK)], i * 3)
      blocks.copyHash(entry, hashes, i * 8)
      const parent = blocks.parentOf(entry)
      if (parent >= 0) blocks.copyHash(parent, parents, i * 8)
      records.set(
        [blocks.depthOf(entry), blocks.tenantOf(entry), blocks.priorityOf(entry), blocks.expiresAtOf(entry), nowS],
        i * RECORD_WORDS,
      )
    })
    return startBatch(context.completions, count, (ticket) =>
      context.binding.startTransfer(ticket, {
        path: 'memoryToSlab',
        onboard: false,
        source: storageOf(tiers, HOST),
        via: null,
        target: storageOf(tiers, DISK),
        moves,
        hashes: new Uint8Array(hashes.buffer),
        parents: new Uint8Array(parents.buffer),
        records,
      }),
    )
  }
}

/** A block to write. */
interface Missing {
  readonly entry: number
  /** The block for whose sake it is written: itself, or one behind it. */
  readonly end: number
}

/** The blocks among `entries`, and before them, that are in host memory and not on disk; parents first. */
function* missingOf(tiers: GroupTiers, entries: readonly number[]): Generator<Missing> {
  const { blocks } = tiers
  const seen = new Set<number>()
  const chain: number[] = []
  for (const end of entries) {
    chain.length = 0
    let at = end
    while (at >= 0 && !seen.has(at) && !blocks.holds(at, DISK) && blocks.holds(at, HOST)) {
      chain.push(at)
      seen.add(at)
      at = blocks.prefixClosed ? blocks.parentOf(at) : -1
    }
    for (let i = chain.length - 1; i >= 0; i--) yield { entry: chain[i] ?? -1, end }
  }
}

/** Groups of `count`; the source is asked for the next one only when it is wanted. */
function* partsOf(missing: Iterable<Missing>, count: number): Generator<Missing[]> {
  let part: Missing[] = []
  for (const each of missing) {
    part.push(each)
    if (part.length < count) continue
    yield part
    part = []
  }
  if (part.length > 0) yield part
}

/**
 * Tick of a block's last use: its own, or that of the block for whose sake it is written, which is behind it. The copy on
 * disk is no newer than that.
 */
function lastUseOf(tiers: GroupTiers, entry: number, end: number): number {
  const { blocks } = tiers
  const own = blocks.lastUseOf(entry, HOST)
  return blocks.holds(end, HOST) ? Math.max(own, blocks.lastUseOf(end, HOST)) : own
}

const NO_ROOM = -1
/** Every block that could leave the disk is worth more than what is to be written. */
const NOT_WORTH_IT = -2
/** The tenant has all the slots that it may have, and none of them can leave now. */
const OVER_QUOTA = -3

function whyNoSlot(slot: number): WriteReport {
  if (slot === NOT_WORTH_IT) return OK
  return slot === OVER_QUOTA
    ? { code: 'ERR_KV_OVER_QUOTA', message: "The tenant's disk quota is used up by blocks that cannot leave now." }
    : { code: 'ERR_KV_OUT_OF_BLOCKS', message: 'The disk tier has no slot that can be evicted now.' }
}

/**
 * A disk slot for a block: a free one, or that of a victim. A tenant that has more than its quota allows gives up slots
 * until it has less.
 *
 * @param worth - the block that a victim must be worth less than; null = any victim will do
 * @returns the slot; {@link NO_ROOM}, {@link NOT_WORTH_IT} or {@link OVER_QUOTA}
 */
function takeDiskSlot(context: MovementContext, tiers: GroupTiers, entry: number, worth: number | null): number {
  const { blocks } = tiers
  const tenant = blocks.tenantOf(entry)
  while (blocks.isOverQuota(tenant, DISK)) {
    const left = evictLesser(context, tiers, blocks.victim(DISK, tenant), worth)
    if (left < 0) return left === NOT_WORTH_IT ? left : OVER_QUOTA
  }
  const slot = blocks.takeFree(DISK)
  if (slot >= 0) return slot
  const left = evictLesser(context, tiers, blocks.victim(DISK), worth)
  return left < 0 ? left : blocks.takeFree(DISK)
}

/** Evicts a victim from disk, unless it is worth more; negative when it stays. */
function evictLesser(context: MovementContext, tiers: GroupTiers, victim: number, worth: number | null): number {
  if (victim < 0) return NO_ROOM
  if (worth !== null && !tiers.blocks.outlasts(worth, HOST, victim, DISK)) {
    tiers.blocks.stay(victim, DISK)
    return NOT_WORTH_IT
  }
  return evictNow(context, tiers, victim, DISK) ? 0 : NO_ROOM
}

function abandonWrite(tiers: GroupTiers, entry: number): void {
  tiers.blocks.abandon(entry, DISK)
  tiers.blocks.unpin(entry, HOST)
}
