/** How blocks come: an entry is begun, a slot filled, and the block published, or not. */
import { NOWHERE } from '../policy/eviction/leaf-queue.js'
import type { GroupState } from './group-state.js'
import { misuse } from './misuse.js'
import type { TierBlocks } from './tier-blocks.js'

/** What a new block is begun with. */
export interface BlockFacts {
  /** Blocks before this one. */
  readonly depth: number
  /** Larger stays longer. */
  readonly priority: number
  /** Unix seconds; 0 = never. */
  readonly expiresAtS: number
  /** The tenant's 32-bit tag, as records carry it. */
  readonly tenant: number
}

/** The entry of a hash; a new one behind `parent` where there is none. */
export function beginBlock(
  state: GroupState,
  hashes: Uint32Array,
  index: number,
  parent: number,
  facts: BlockFacts,
): number {
  const { registry, tenants } = state
  const existing = registry.find(hashes, index)
  if (existing >= 0) {
    extendBlock(state, existing, facts.priority, facts.expiresAtS)
    return existing
  }
  const linked = state.prefixClosed ? parent : -1
  if (state.prefixClosed) checkParent(state, parent, facts.depth)
  const tenant = tenants.numberOf(facts.tenant)
  const entry = registry.create(hashes, index)
  registry.describe(entry, linked, tenant, facts.depth, facts.priority, facts.expiresAtS)
  tenants.join(tenant, 1)
  if (linked >= 0) state.refresh(linked)
  return entry
}

/**
 * Makes what was filling findable; false when the block was lost meanwhile or its parent is not held.
 *
 * @param lastUse - tick of the block's last use, where it is older than this copy
 */
export function publishBlock(state: GroupState, entry: number, tier: number, pins: number, lastUse: number): boolean {
  const { registry } = state
  const at = state.expectTier(tier)
  const slot = expectFilling(at, entry, 'published')
  if (!registry.isLive(entry)) return false
  const parent = registry.parentOf(entry)
  if (parent >= 0 && registry.copies[parent] === 0) return false
  at.pool.publish(slot, pins)
  registry.copies[entry]!++
  at.held++
  at.queue.insert(slot, state.tick)
  // The slot stands nowhere yet: the order by last use is told the older tick, the order by arrival this one.
  at.queue.lastUse[slot] = Math.min(lastUse, state.tick)
  state.rank(at, entry, slot)
  return true
}

/** Takes a filling slot back from its entry, to be free or the caller's; an entry without any slot goes. */
export function takeBackFilling(state: GroupState, entry: number, tier: number, free: boolean): void {
  const at = state.expectTier(tier)
  at.takeBack(entry, expectFilling(at, entry, 'given up'), free)
  if (state.registry.isLost(entry)) state.releaseIfEmpty(entry)
  else state.removeIfEmpty(entry)
}

function expectFilling(at: TierBlocks, entry: number, asked: string): number {
  const slot = at.expectSlot(entry, asked)
  if (!at.pool.isFilling(slot)) {
    misuse(`Entry ${entry} was to be ${asked} in tier ${at.number}; its slot is ${at.pool.stateOf(slot)}.`)
  }
  return slot
}

function checkParent(state: GroupState, parent: number, depth: number): void {
  const { registry } = state
  if (parent < 0 ? depth !== 0 : !registry.isLive(parent)) {
    misuse(`A block of depth ${depth} was to begin behind entry ${parent}, which is no block.`)
  }
  if (parent >= 0 && registry.depthOf(parent) + 1 !== depth) {
    misuse(`A block of depth ${depth} was to begin behind one of depth ${registry.depthOf(parent)}.`)
  }
}

/** A block that is stored again keeps the larger priority and the later expiry. */
export function extendBlock(state: GroupState, entry: number, priority: number, expiresAtS: number): void {
  const { registry } = state
  const before = registry.expiryOf(entry)
  const later = before === 0 || expiresAtS === 0 ? 0 : Math.max(before, expiresAtS)
  const larger = Math.max(registry.priorityOf(entry), priority)
  if (later === before && larger === registry.priorityOf(entry)) return
  for (const tier of state.tiers) {
    const slot = tier.slotOf(entry)
    if (slot >= 0) tier.queue.place(slot, NOWHERE)
  }
  registry.setExpiry(entry, later)
  registry.setPriority(entry, larger)
  state.refresh(entry)
}
