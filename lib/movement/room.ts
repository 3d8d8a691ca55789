/**
 * Makes room in a tier: free slots first, then the eviction policy's victims. A host block that is nowhere else is
 * written to disk before it leaves; where there is no disk tier, or it fails, the block is simply gone.
 */
import { DEVICE, DISK, HOST, type TierNumber } from '../tiers/types.js'
import { evictNow, type GroupTiers, type MovementContext, sweepExpired } from './context.js'

/** Blocks that expired and are dropped each time room is made. */
const SWEEP = 64

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
 * blocks need none).
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
  sweepExpired(context, tiers, SWEEP)
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
  const slots = takeInHand(context, tiers, count, tenant)
  const hasDisk = tiers.tiers[DISK].storage !== null
  let fruitless = 0
  while (slots.length < count && stillWanted() && fruitless < 2) {
    const victims: number[] = []
    while (victims.length < count - slots.length) {
      const inHand = tiers.inHand.get(tenant) ?? 0
      const victim = nextVictim(tiers, HOST, tenant, inHand, hasDisk && fruitless === 0)
      if (victim < 0) break
      victims.push(victim)
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
