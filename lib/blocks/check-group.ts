/** What must hold of a layer group's accounting at any time between two calls. For tests; walks everything. */
import { NOWHERE, PARKED, READY } from '../policy/eviction/leaf-queue.js'
import type { GroupState } from './group-state.js'
import { misuse } from './misuse.js'
import type { TierBlocks } from './tier-blocks.js'

/** Throws `ERR_KV_INTERNAL` with the first rule that is broken. */
export function checkGroup(state: GroupState): void {
  const { registry } = state
  let live = 0
  let used = 0
  for (let entry = 0; entry < registry.capacity; entry++) {
    if (registry.isLive(entry)) {
      live++
      checkBlock(state, entry)
    } else if (registry.isLost(entry)) checkLost(state, entry)
    else {
      if (state.hasSlot(entry)) misuse(`Entry ${entry} is not in use; it has a slot.`)
      continue
    }
    used++
  }
  if (live !== registry.liveCount) misuse(`${live} entries are live; the hash table holds ${registry.liveCount}.`)
  if (used !== registry.count) misuse(`${used} entries are in use; the registry counts ${registry.count}.`)
  for (const tier of state.tiers) checkTier(state, tier)
}

function checkBlock(state: GroupState, entry: number): void {
  const { registry } = state
  if (registry.find(registry.hashes, entry) !== entry) misuse(`Entry ${entry} is live; its hash does not find it.`)
  const copies = state.tiers.filter((tier) => tier.heldSlotOf(entry) >= 0).length
  if (registry.copies[entry] !== copies)
    misuse(`Entry ${entry} counts ${registry.copies[entry]} copies; ${copies} tiers hold it.`)
  let children = 0
  for (let child = registry.firstChildOf(entry); child >= 0; child = registry.nextSiblingOf(child)) {
    children++
    if (!registry.isLive(child) || registry.parentOf(child) !== entry)
      misuse(`Entry ${child} is no true child of ${entry}.`)
  }
  if (children !== registry.childCountOf(entry))
    misuse(`Entry ${entry} counts ${registry.childCountOf(entry)} children, has ${children}.`)
  if (!state.prefixClosed) return
  const parent = registry.parentOf(entry)
  if (parent < 0 !== (registry.depthOf(entry) === 0))
    misuse(`Entry ${entry} has depth ${registry.depthOf(entry)} and parent ${parent}.`)
  if (parent >= 0 && copies > 0 && registry.copies[parent] === 0)
    misuse(`Entry ${entry} is held; its parent ${parent} is not.`)
}

function checkLost(state: GroupState, entry: number): void {
  const { registry } = state
  if (!state.hasSlot(entry)) misuse(`Entry ${entry} is lost and has no slot; it was not released.`)
  if (registry.find(registry.hashes, entry) === entry) misuse(`Entry ${entry} is lost; its hash still finds it.`)
  if (registry.copies[entry] !== 0 || registry.childCountOf(entry) !== 0 || registry.parentOf(entry) >= 0) {
    misuse(`Entry ${entry} is lost; it has copies, children or a parent.`)
  }
  for (const tier of state.tiers) {
    const slot = tier.slotOf(entry)
    if (slot >= 0 && tier.pool.stateOf(slot) === 'evictable' && !tier.isLeaving(slot)) {
      misuse(`Slot ${slot} of tier ${tier.number} is of the lost entry ${entry}; nobody will free it.`)
    }
  }
}

function checkTier(state: GroupState, tier: TierBlocks): void {
  const { registry } = state
  const where = `of tier ${tier.number}`
  tier.pool.check()
  tier.queue.check()
  let held = 0
  let holes = 0
  let leaving = 0
  const children = new Map<number, number>()
  for (let slot = 0; slot < tier.pool.slotCount; slot++) {
    const entry = tier.pool.ownerOf(slot)
    const ranked = tier.isRanked(slot)
    if (tier.isLeaving(slot)) leaving++
    if (entry >= 0 && tier.slotOf(entry) !== slot)
      misuse(`Slot ${slot} ${where} is of entry ${entry}, which has slot ${tier.slotOf(entry)}.`)
    if (entry >= 0 && tier.heldSlotOf(entry) === slot) held++
    if (ranked !== (entry >= 0 && tier.heldSlotOf(entry) === slot && !tier.isLeaving(slot))) {
      misuse(`Slot ${slot} ${where} is ${ranked ? '' : 'not '}ranked; it is ${tier.pool.stateOf(slot)}.`)
    }
    const parent = ranked ? registry.parentOf(entry) : -1
    if (parent >= 0) {
      children.set(parent, (children.get(parent) ?? 0) + 1)
      const parentSlot = tier.slotOf(parent)
      if (parentSlot < 0 || !tier.isRanked(parentSlot)) holes++
    }
  }
  if (held !== tier.held || holes !== tier.holes || leaving !== tier.leaving) {
    misuse(
      `Tier ${tier.number} counts ${tier.held} held, ${tier.holes} holes, ${tier.leaving} leaving; there are ${held}, ${holes}, ${leaving}.`,
    )
  }
  for (let entry = 0; entry < registry.capacity; entry++) {
    if (tier.rankedChildrenOf(entry) !== (children.get(entry) ?? 0)) {
      misuse(
        `Entry ${entry} counts ${tier.rankedChildrenOf(entry)} ranked children ${where}; there are ${children.get(entry) ?? 0}.`,
      )
    }
  }
  checkStandings(state, tier)
  checkUse(state, tier)
}

function checkStandings(state: GroupState, tier: TierBlocks): void {
  for (let slot = 0; slot < tier.pool.slotCount; slot++) {
    const entry = tier.pool.ownerOf(slot)
    const free = tier.isRanked(slot) && tier.pool.pinsOf(slot) === 0 && tier.rankedChildrenOf(entry) === 0
    const spare = state.tiers.some((other) => other !== tier && other.heldSlotOf(entry) >= 0)
    const expected = !free ? NOWHERE : registryChildren(state, entry) === 0 || spare ? READY : PARKED
    if (tier.queue.standingOf(slot) !== expected) {
      misuse(
        `Slot ${slot} of tier ${tier.number} stands at ${tier.queue.standingOf(slot)} in the queue; it should at ${expected}.`,
      )
    }
  }
}

function registryChildren(state: GroupState, entry: number): number {
  return state.prefixClosed ? state.registry.childCountOf(entry) : 0
}

function checkUse(state: GroupState, tier: TierBlocks): void {
  const used = new Map<number, number>()
  for (let slot = 0; slot < tier.pool.slotCount; slot++) {
    const entry = tier.pool.ownerOf(slot)
    if (entry < 0) continue
    const tenant = state.registry.tenantOf(entry)
    used.set(tenant, (used.get(tenant) ?? 0) + 1)
  }
  for (const [tenant, slots] of used) {
    const counted = state.tenants.usedBy(tenant, tier.number)
    if (counted !== slots) misuse(`Tenant ${tenant} counts ${counted} slots of tier ${tier.number}; it has ${slots}.`)
  }
}
