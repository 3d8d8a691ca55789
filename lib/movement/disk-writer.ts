/**
 * Writes host blocks to disk: for write-back, for `until: 'disk'` and for flush. The disk tier is kept prefix-closed: a
 * block is written together with the blocks before it that are not on disk yet, and becomes visible there only after
 * them, so that whatever a restart finds can be used.
 */
import { isKvError } from '../errors.js'
import { NO_SLOT, RECORD_WORDS } from '../native/binding.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { DISK, HOST } from '../tiers/types.js'
import {
  type Displaces,
  evictNow,
  type GroupTiers,
  type HostWriter,
  type MovementContext,
  nowSeconds,
  storageOf,
  type WriteReport,
} from './context.js'
import { type NativeBatch, startBatch } from './native-batch.js'

const OK: WriteReport = { code: 'OK', message: '' }

/** One a manager. Writes of one layer group run one batch after the other; groups run beside each other. */
export class DiskWriter implements HostWriter {
  readonly #queues: Promise<unknown>[] = []
  readonly #context: () => MovementContext

  constructor(context: () => MovementContext) {
    this.#context = context
  }

  /** Resolves when every write that was asked for so far has settled. */
  async idle(): Promise<void> {
    for (let i = 0; i < this.#queues.length; i++) await this.#queues[i]
  }

  /**
   * Brings blocks (published in the host tier) and what is missing before them to disk. Those that got there are held by
   * {@link DISK} afterwards; the report says why others are not. Never rejects.
   *
   * The caller keeps the blocks pinned or leaving in the host tier meanwhile.
   */
  write(tiers: GroupTiers, entries: readonly number[], displaces: Displaces): Promise<WriteReport> {
    const before = this.#queues[tiers.index] ?? Promise.resolve()
    const mine = before.then(() => this.#writeAll(tiers, entries, displaces))
    this.#queues[tiers.index] = mine.catch(() => undefined)
    return mine
  }

  async #writeAll(tiers: GroupTiers, entries: readonly number[], displaces: Displaces): Promise<WriteReport> {
    const missing = collectMissing(tiers, entries)
    let report = OK
    for (let at = 0; at < missing.length; at += LIMITS.maxBlocksPerTransfer) {
      const part = missing.slice(at, at + LIMITS.maxBlocksPerTransfer)
      const outcome = await this.#writeBatch(tiers, part, displaces)
      if (report.code === 'OK') report = outcome
    }
    return report
  }

  async #writeBatch(tiers: GroupTiers, wanted: readonly Missing[], displaces: Displaces): Promise<WriteReport> {
    // What is before these blocks on disk must not make room for them: they could not be used without it.
    const { blocks } = tiers
    const before = wanted.map(({ entry }) => blocks.parentOf(entry)).filter((parent) => blocks.holds(parent, DISK))
    for (const parent of before) blocks.pin(parent, DISK)
    try {
      return await this.#writePinned(tiers, wanted, displaces)
    } finally {
      for (const parent of before) blocks.unpin(parent, DISK)
    }
  }

  async #writePinned(tiers: GroupTiers, wanted: readonly Missing[], displaces: Displaces): Promise<WriteReport> {
    const context = this.#context()
    const { blocks } = tiers
    const batch: number[] = []
    let report = OK
    for (const { entry, end } of wanted) {
      // A block may have left, been written or been lost while earlier batches ran.
      if (!blocks.holds(entry, HOST) || blocks.slotOf(entry, DISK) >= 0) continue
      const parent = blocks.parentOf(entry)
      if (parent >= 0 && blocks.slotOf(parent, DISK) < 0) continue
      const slot = takeDiskSlot(context, tiers, entry, displaces === 'any' || !blocks.holds(end, HOST) ? null : end)
      if (slot === NOT_WORTH_IT) continue
      if (slot < 0) {
        report = { code: 'ERR_KV_OUT_OF_BLOCKS', message: 'The disk tier has no slot that can be evicted now.' }
        break
      }
      blocks.pin(entry, HOST)
      blocks.assign(entry, DISK, slot)
      batch.push(entry)
    }
    if (batch.length === 0) return report
    let native: NativeBatch
    try {
      native = this.#start(context, tiers, batch)
    } catch (error) {
      for (const entry of batch) abandonWrite(tiers, entry)
      return {
        code: isKvError(error) ? error.code : 'ERR_KV_INTERNAL',
        message: error instanceof Error ? error.message : '',
      }
    }
    const outcomes = await native.done
    const failed: number[] = []
    let written = 0
    batch.forEach((entry, i) => {
      const code = outcomes.codes[i] ?? CODE.ERR_KV_INTERNAL
      const parent = blocks.parentOf(entry)
      const usable = parent < 0 || blocks.holds(parent, DISK)
      if (code === CODE.OK && usable && blocks.publish(entry, DISK)) {
        blocks.unpin(entry, HOST)
        written++
        return
      }
      failed.push(entry)
      if (code !== CODE.OK && report.code === 'OK') {
        report = { code: ERROR_CODES[code] ?? 'ERR_KV_INTERNAL', message: outcomes.message }
      }
    })
    context.counters.diskWrites += written
    context.counters.diskWriteBytes += written * tiers.blockBytes
    if (written > 0) context.events.emit('stored', { tier: 'disk', blocks: written, group: tiers.group.name })
    await native.settled
    for (const entry of failed) abandonWrite(tiers, entry)
    if (report.code !== 'OK') {
      context.counters.transferFailures += failed.length
      context.events.emit('tierFailed', { tier: 'disk', code: report.code, message: report.message })
    }
    return report
  }

  #start(context: MovementContext, tiers: GroupTiers, batch: readonly number[]): NativeBatch {
    const { blocks } = tiers
    const count = batch.length
    const moves = new Uint32Array(count * 3)
    const hashes = new Uint32Array(count * 8)
    const parents = new Uint32Array(count * 8)
    const records = new Uint32Array(count * RECORD_WORDS)
    const nowS = nowSeconds(context)
    batch.forEach((entry, i) => {
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
function collectMissing(tiers: GroupTiers, entries: readonly number[]): Missing[] {
  const { blocks } = tiers
  const seen = new Set<number>()
  const missing: Missing[] = []
  const chain: number[] = []
  for (const end of entries) {
    chain.length = 0
    let at = end
    while (at >= 0 && !seen.has(at) && !blocks.holds(at, DISK) && blocks.holds(at, HOST)) {
      chain.push(at)
      seen.add(at)
      at = blocks.prefixClosed ? blocks.parentOf(at) : -1
    }
    for (let i = chain.length - 1; i >= 0; i--) missing.push({ entry: chain[i] ?? -1, end })
  }
  return missing
}

/** Every block that could leave the disk is worth more than what is to be written. */
const NOT_WORTH_IT = -2

/**
 * A disk slot for a block: a free one, or that of a victim.
 *
 * @param worth - the block that a victim must be worth less than; null = any victim will do
 * @returns -1 when no block can leave now
 */
function takeDiskSlot(context: MovementContext, tiers: GroupTiers, entry: number, worth: number | null): number {
  const { blocks } = tiers
  const tenant = blocks.tenantOf(entry)
  if (blocks.isOverQuota(tenant, DISK)) {
    const left = evictLesser(context, tiers, blocks.victim(DISK, tenant), worth)
    if (left < 0) return left
  }
  const slot = blocks.takeFree(DISK)
  if (slot >= 0) return slot
  const left = evictLesser(context, tiers, blocks.victim(DISK), worth)
  return left < 0 ? left : blocks.takeFree(DISK)
}

/** Evicts a victim from disk, unless it is worth more; negative when it stays. */
function evictLesser(context: MovementContext, tiers: GroupTiers, victim: number, worth: number | null): number {
  if (victim < 0) return -1
  if (worth !== null && !tiers.blocks.outlasts(worth, HOST, victim, DISK)) {
    tiers.blocks.stay(victim, DISK)
    return NOT_WORTH_IT
  }
  return evictNow(context, tiers, victim, DISK) ? 0 : -1
}

function abandonWrite(tiers: GroupTiers, entry: number): void {
  tiers.blocks.abandon(entry, DISK)
  tiers.blocks.unpin(entry, HOST)
}
