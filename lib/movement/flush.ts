/**
 * Writes every host block that is not on disk.
 */
import { DISK, HOST } from '../tiers/types.js'
import { type MovementContext, storageOf } from './context.js'

/**
 * Flushes all layer groups.
 *
 * @param sync - also make what is on disk survive a power loss
 * @returns how many blocks were written
 */
export async function flushToDisk(context: MovementContext, sync: boolean): Promise<number> {
  const before = context.counters.diskWrites
  for (const tiers of context.groups) {
    if (tiers.tiers[DISK].storage === null) continue
    const entries: number[] = []
    for (let slot = 0; slot < tiers.tiers[HOST].slotCount; slot++) {
      const entry = tiers.blocks.entryAt(HOST, slot)
      if (entry >= 0 && tiers.blocks.holds(entry, HOST) && !tiers.blocks.holds(entry, DISK)) entries.push(entry)
    }
    if (entries.length > 0) await context.diskWriter.write(tiers, entries)
    if (sync) await context.completions.call((ticket) => context.binding.startSync(ticket, storageOf(tiers, DISK)))
  }
  return context.counters.diskWrites - before
}
