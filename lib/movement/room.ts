/**
 * Makes room in a tier: free slots first, then the eviction policy's victims. A host block that is nowhere else is
 * written to disk before it leaves; where there is no disk tier, or it fails, the block is simply gone.
 */
import { DEVICE, DISK, HOST, type TierNumber } from '../tiers/types.js'
import { evictNow, type GroupTiers, type MovementContext, sweepExpired } from './context.js'
import type { TransferControl } from './transfer.js'

function mustBeWritten(tiers: GroupTiers, entry: number, tier: TierNumber): boolean {
  return tier === HOST && tiers.tiers[DISK].storage !== null && !tiers.blocks.holds(entry, DISK)
}

/** The next block to leave: of the tenant itself when its quota is used up. */
function nextVictim(tiers: GroupTiers, tier: TierNumber, tenant: number, taken: number, toMove: boolean): number {
  const { blocks } = tiers
  const own = blocks.isOverQuota(tenant, tier, taken) ? tenant : undefined
  return toMove ? blocks.victimToMove(tier, own) : blocks.victim(tier, own)
}

/**
 * Takes up to `count` slots of a tier without waiting: free ones, and those of victims that have another copy (device
 * blocks need none). Drops nothing that is pinned.
 *
 * @returns slots, each `filling` and to be assigned or given back
 */
export function takeRoomNow(
  context: MovementContext,
  tiers: GroupTiers,
  tier: TierNumber,
  count: number,
  tenant: number,
): number[] {
  const { blocks } = tiers
  const slots: number[] = []
  const inHand = tier === HOST ? (tiers.inHand.get(tenant) ?? 0) : 0
  while (slots.length < count) {
    if (!blocks.isOverQuota(tenant, tier, inHand + slots.length)) {
      const free = blocks.takeFree(tier)
      if (free >= 0) {
        slots.push(free)
        continue
      }
    }
    const victim = nextVictim(tiers, tier, tenant, inHand + slots.length, false)
    if (victim < 0) {
      if (tier === DEVICE && loseNeeded(context, tiers)) continue
      break
    }
    if (mustBeWritten(tiers, victim, tier)) {
      blocks.stay(victim, tier)
      break
    }
    if (!evictNow(context, tiers, victim, tier)) break
  }
  return slots
}

/**
 * Frees a device slot whose block is nowhere else and needed by blocks behind it in other tiers, which are lost with it:
 * the engine must not run out of device memory for what is only cached.
 */
function loseNeeded(context: MovementContext, tiers: GroupTiers): boolean {
  const { blocks } = tiers
  const entry = blocks.victimToMove(DEVICE)
  if (entry < 0) return false
  const lost = blocks.drop(entry)
  context.counters.lost += lost
  context.events.emit('lost', { tier: 'device', blocks: lost, group: tiers.group.name, reason: 'ERR_KV_OUT_OF_BLOCKS' })
  return evictNow(context, tiers, entry, DEVICE)
}

/**
 * Takes up to `count` host slots, writing victims to disk where they are nowhere else. They are in the caller's hand, and
 * count against the tenant's quota, until it calls {@link putDown}.
 *
 * @returns fewer slots than asked for only when everything else is pinned, being filled, or of other tenants under a quota
 */
export async function takeHostRoom(
  context: MovementContext,
  tiers: GroupTiers,
  count: number,
  tenant: number,
  stillWanted: () => boolean,
): Promise<number[]> {
  if (count === 0) return []
  sweepExpired(context, tiers)
  const slots = takeInHand(context, tiers, count, tenant)
  const hasDisk = tiers.tiers[DISK].storage !== null
  let fruitless = 0
  while (slots.length < count && stillWanted() && fruitless < 2) {
    const victims: number[] = []
    // A slot of another tenant's counts against the quota; one of its own does not.
    let ofOthers = 0
    while (victims.length < count - slots.length) {
      const taken = (tiers.inHand.get(tenant) ?? 0) + ofOthers
      const victim = nextVictim(tiers, HOST, tenant, taken, hasDisk && fruitless === 0)
      if (victim < 0) break
      victims.push(victim)
      if (tiers.blocks.tenantOf(victim) !== tenant) ofOthers++
    }
    const toWrite = victims.filter((entry) => mustBeWritten(tiers, entry, HOST))
    // With no victim of our own, another request's write-back may be about to free some.
    if (toWrite.length > 0) await context.diskWriter.write(tiers, toWrite, 'lesser')
    else if (victims.length === 0) await context.diskWriter.idle()
    let freed = 0
    // Deepest first, as they were chosen: a block leaves after the ones behind it.
    for (const victim of victims) if (evictNow(context, tiers, victim, HOST)) freed++
    const more = takeInHand(context, tiers, count - slots.length, tenant)
    slots.push(...more)
    fruitless = freed + more.length === 0 ? fruitless + 1 : 0
  }
  return slots
}

/**
 * The same for a transfer.
 *
 * @returns null when the transfer ended first: slots that come too late are given back
 */
export async function takeHostRoomFor(
  context: MovementContext,
  tiers: GroupTiers,
  count: number,
  tenant: number,
  control: TransferControl,
): Promise<number[] | null> {
  const room = takeHostRoom(context, tiers, count, tenant, () => control.code === null)
  if (await control.wait(room)) return await room
  // A write-back may still be under way, and what it frees is not for this transfer any more.
  control.settleAfter(
    room.then((slots) => {
      putDown(tiers, tenant, slots.length)
      giveBackRoom(tiers, HOST, slots)
    }),
  )
  return null
}

function takeInHand(context: MovementContext, tiers: GroupTiers, count: number, tenant: number): number[] {
  const slots = takeRoomNow(context, tiers, HOST, count, tenant)
  if (slots.length > 0) tiers.inHand.set(tenant, (tiers.inHand.get(tenant) ?? 0) + slots.length)
  return slots
}

/** Slots of {@link takeHostRoom} are in hand no more: their blocks have them, or they are given back. */
export function putDown(tiers: GroupTiers, tenant: number, count: number): void {
  const left = (tiers.inHand.get(tenant) ?? 0) - count
  if (left > 0) tiers.inHand.set(tenant, left)
  else tiers.inHand.delete(tenant)
}

/** Gives slots back that were taken and not assigned. */
export function giveBackRoom(tiers: GroupTiers, tier: TierNumber, slots: readonly number[]): void {
  for (const slot of slots) tiers.blocks.giveBack(tier, slot)
}
