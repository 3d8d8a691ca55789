/**
 * Writes the host blocks that are not on disk: all of them where there is room, else those that are worth more than what
 * is there.
 */
import { KvError } from '../errors.js'
import { DISK, HOST } from '../tiers/types.js'
import { type GroupTiers, type MovementContext, storageOf } from './context.js'
import type { TransferControl, TransferLimits } from './transfer.js'

/** What `manager.flush` takes. */
export interface FlushOptions extends TransferLimits {
  /**
   * Also wait until what is on disk would survive a power loss (default false). Once that has failed it fails until the
   * manager is opened again: the system may have dropped what it could not write.
   */
  readonly sync?: boolean
  /**
   * Milliseconds that a part of the flush, of at most 256 MiB, may take before the flush is ended; 0 = any time (default:
   * the manager's).
   */
  readonly deadlineMs?: number | undefined
}

/** Host slots that are looked at before the event loop has its turn. */
const SCAN_SLOTS = 16_384

/**
 * Flushes all layer groups.
 *
 * @param sync - also make what is on disk survive a power loss
 * @param control - ends the flush: what is not written by then stays in host memory. Its deadline counts for each part
 * @returns how many blocks were written
 * @throws KvError ERR_KV_IO when `sync` failed; what ended the flush, when that was before `sync` was done
 */
export async function flushToDisk(context: MovementContext, sync: boolean, control: TransferControl): Promise<number> {
  const before = context.counters.diskWrites
  for (const tiers of context.groups) {
    if (tiers.tiers[DISK].storage === null) continue
    const ends = await newestFirst(tiers)
    if (ends.length > 0 && control.code === null) {
      const writing = context.diskWriter.write(tiers, ends, 'lesser', control)
      control.settleAfter(writing)
      await control.wait(writing)
    }
    if (sync) await syncNow(context, tiers, control)
  }
  return context.counters.diskWrites - before
}

async function syncNow(context: MovementContext, tiers: GroupTiers, control: TransferControl): Promise<void> {
  control.restartDeadline()
  const syncing = context.completions.call((ticket) => context.binding.startSync(ticket, storageOf(tiers, DISK)))
  control.settleAfter(syncing.catch(() => undefined))
  if (await control.wait(syncing)) return
  throw new KvError(
    control.code ?? 'ERR_KV_ABORTED',
    'The flush was ended before the disk had made its writes durable.',
  )
}

/**
 * The last blocks of runs that are in host memory and not on disk, the newest first. What is before them is written with
 * them, so a shared start is written for the newest that needs it.
 */
async function newestFirst(tiers: GroupTiers): Promise<number[]> {
  const { blocks } = tiers
  const isWanted = (entry: number): boolean => entry >= 0 && blocks.holds(entry, HOST) && !blocks.holds(entry, DISK)
  const ends: { readonly entry: number; readonly use: number; readonly depth: number }[] = []
  for (let slot = 0; slot < tiers.tiers[HOST].slotCount; slot++) {
    if (slot % SCAN_SLOTS === SCAN_SLOTS - 1) await new Promise((resolve) => setImmediate(resolve))
    const entry = blocks.entryAt(HOST, slot)
    if (!isWanted(entry) || blocks.hasChildIn(entry, HOST)) continue
    ends.push({ entry, use: blocks.lastUseOf(entry, HOST), depth: blocks.depthOf(entry) })
  }
  return ends.sort((a, b) => b.use - a.use || b.depth - a.depth).map((end) => end.entry)
}
