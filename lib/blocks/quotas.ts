/** Quotas: how many slots of a tier a tenant may have. A tenant with one has its own partition of the tier's queue. */
import { COMMON, NOWHERE } from '../policy/eviction/leaf-queue.js'
import type { GroupState } from './group-state.js'
import { misuse } from './misuse.js'

/**
 * Sets, changes or (Infinity) ends a tenant's quota in a tier. O(slots) where it is new or ends and the tenant has blocks
 * in the tier.
 */
export function setQuota(state: GroupState, tenant: number, tier: number, slots: number): void {
  if (!(slots >= 0)) misuse(`A quota of ${slots} slots of tier ${tier} was to be set; it must be 0 or more.`)
  const { tenants } = state
  const at = state.expectTier(tier)
  const number = tenants.numberOf(tenant)
  const partition = tenants.partitionOf(number, tier)
  const limited = slots !== Number.POSITIVE_INFINITY
  if (limited === (partition !== COMMON)) tenants.setQuota(number, tier, slots, partition)
  else {
    eachRanked(state, tier, number, (slot) => at.queue.place(slot, NOWHERE))
    if (!limited) at.queue.closePartition(partition)
    tenants.setQuota(number, tier, slots, limited ? at.queue.openPartition() : COMMON)
    eachRanked(state, tier, number, (_slot, entry) => at.refresh(entry))
  }
  if (!limited) tenants.forgetIfUnused(number)
}

/** Slots of a tier that a tenant has. */
export function usedBy(state: GroupState, tenant: number, tier: number): number {
  const number = state.tenants.find(tenant)
  return number < 0 ? 0 : state.tenants.usedBy(number, tier)
}

/** Whether a tenant that has `taken` unassigned slots more can have no further one. */
export function isOverQuota(state: GroupState, tenant: number, tier: number, taken: number): boolean {
  const { tenants } = state
  const number = tenants.find(tenant)
  return number >= 0 && tenants.usedBy(number, tier) + taken >= tenants.quotaOf(number, tier)
}

function eachRanked(
  state: GroupState,
  tier: number,
  tenant: number,
  visit: (slot: number, entry: number) => void,
): void {
  if (state.tenants.usedBy(tenant, tier) === 0) return
  const at = state.expectTier(tier)
  for (let slot = 0; slot < at.pool.slotCount; slot++) {
    if (!at.isRanked(slot)) continue
    const entry = at.pool.ownerOf(slot)
    if (state.registry.tenantOf(entry) === tenant) visit(slot, entry)
  }
}
