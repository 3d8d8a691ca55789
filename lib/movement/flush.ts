/**
 * Writes the host blocks that are not on disk: all of them where there is room, else those that are worth more than what
 * is there.
 */
import { DISK, HOST } from '../tiers/types.js'
import { type GroupTiers, type MovementContext, storageOf } from './context.js'

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
    if (entries.length > 0) await context.diskWriter.write(tiers, newestFirst(tiers, entries), 'lesser')
    if (sync) await context.completions.call((ticket) => context.binding.startSync(ticket, storageOf(tiers, DISK)))
  }
  return context.counters.diskWrites - before
}

/** Ends of prompts before what is in front of them, so that a shared start is written for the newest that needs it. */
function newestFirst(tiers: GroupTiers, entries: number[]): number[] {
  const { blocks } = tiers
  const uses = new Map(entries.map((entry) => [entry, blocks.lastUseOf(entry, HOST)]))
  return entries.sort((a, b) => (uses.get(b) ?? 0) - (uses.get(a) ?? 0) || blocks.depthOf(b) - blocks.depthOf(a))
}
