/** How blocks leave a tier: in the policy's order (a victim is handed out, and is evicted or stays), or expired. */
import { ALL_PARTITIONS, COMMON } from '../policy/eviction/leaf-queue.js'
import type { GroupState, ReportSlot } from './group-state.js'
import { misuse } from './misuse.js'
import type { TierBlocks } from './tier-blocks.js'

/**
 * Takes the block that leaves next out of the order.
 *
 * @param tenant - tag of the tenant whose blocks alone count; undefined = all
 * @param toMove - blocks that are needed by others behind them count too
 * @returns -1 when there is none
 */
export function takeVictim(state: GroupState, tier: number, tenant: number | undefined, toMove: boolean): number {
  const at = state.findTier(tier)
  if (at === null) return -1
  let partition = ALL_PARTITIONS
  if (tenant !== undefined) {
    const number = state.tenants.find(tenant)
    if (number < 0) return -1
    partition = state.tenants.partitionOf(number, tier)
    if (partition === COMMON)
      misuse(`A victim of tenant ${tenant} was asked for in tier ${tier}, where it has no quota.`)
  }
  const slot = at.queue.top(partition, state.nowS, toMove)
  if (slot < 0) return -1
  const entry = at.pool.ownerOf(slot)
  at.unrank(entry, slot)
  at.startLeaving(slot)
  return entry
}

/** Frees a victim's slot, or keeps it where it has become needed; whether it left. */
export function evictVictim(state: GroupState, entry: number, tier: number): boolean {
  const { registry } = state
  const at = state.expectTier(tier)
  const slot = expectLeaving(at, entry, 'evicted')
  const lost = registry.isLost(entry)
  const onlyCopy = state.prefixClosed && registry.copies[entry] === 1 && registry.childCountOf(entry) > 0
  if (lost || onlyCopy || at.pool.pinsOf(slot) > 0 || at.rankedChildrenOf(entry) > 0) {
    keepVictim(state, entry, tier)
    return lost
  }
  at.endLeaving(slot)
  registry.copies[entry]!--
  at.held--
  at.takeBack(entry, slot, true)
  if (registry.copies[entry] === 0) state.removeIfEmpty(entry)
  else state.refresh(entry)
  return true
}

/** Puts a victim back where it was; one that was lost meanwhile is gone when it is not pinned. */
export function keepVictim(state: GroupState, entry: number, tier: number): void {
  const at = state.expectTier(tier)
  const slot = expectLeaving(at, entry, 'kept')
  at.endLeaving(slot)
  if (!state.registry.isLost(entry)) state.rank(at, entry, slot)
  else if (at.pool.pinsOf(slot) === 0) state.freeSlot(at, entry, slot)
}

/** Drops up to `limit` expired blocks, the soonest first, each with what is behind it; how many of all were held. */
export function dropExpired(state: GroupState, nowS: number, limit: number, report: ReportSlot | null): number {
  let lost = 0
  for (let dropped = 0; dropped < limit; dropped++) {
    const entry = state.registry.firstExpired(nowS)
    if (entry < 0) break
    lost += state.drop(entry, report)
  }
  return lost
}

/**
 * Whether a block of one tier is worth more than one of another tier: it has not expired, and the other has, or comes
 * before it by priority, last use or depth.
 */
export function outlasts(state: GroupState, entry: number, tier: number, other: number, otherTier: number): boolean {
  const { registry, nowS } = state
  const expired = registry.isExpired(other, nowS)
  if (expired || registry.isExpired(entry, nowS)) return expired
  const priorities = registry.priorityOf(entry) - registry.priorityOf(other)
  if (priorities !== 0) return priorities > 0
  const uses = lastUseOf(state, entry, tier) - lastUseOf(state, other, otherTier)
  return uses !== 0 ? uses > 0 : registry.depthOf(entry) < registry.depthOf(other)
}

/** Tick of a block's last use in a tier; exact where nothing is behind it there. */
export function lastUseOf(state: GroupState, entry: number, tier: number): number {
  const at = state.expectTier(tier)
  return at.queue.lastUse[at.expectSlot(entry, 'compared')]!
}

function expectLeaving(at: TierBlocks, entry: number, asked: string): number {
  const slot = at.expectSlot(entry, asked)
  if (!at.isLeaving(slot)) misuse(`Entry ${entry} was to be ${asked} in tier ${at.number}; it is not leaving.`)
  return slot
}
