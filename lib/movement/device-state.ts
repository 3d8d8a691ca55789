/**
 * Whether G1 can still be used. A GPU that was lost is lost to this process: its transfers are misses from then on, what
 * it held is forgotten, and the other tiers go on.
 */
import type { ErrorCode } from '../errors.js'
import { DEVICE } from '../tiers/types.js'
import { evictNow, type GroupTiers, isKept, type MovementContext } from './context.js'

/** What is known about G1; one a manager. */
export interface DeviceState {
  /** The GPUs that its memory lies on; empty for memory of kind `host`, and where there is none. */
  readonly ordinals: readonly number[]
  /** Why it takes no transfers any more; null while it does. */
  failure: { readonly code: ErrorCode; readonly message: string } | null
}

/** Takes note of an outcome: of ERR_KV_DEVICE_LOST, and of no other. */
export function noteDeviceLost(context: MovementContext, code: ErrorCode | 'OK', message: string): void {
  if (code !== 'ERR_KV_DEVICE_LOST' || context.device.failure !== null) return
  context.device.failure = { code, message }
  forgetDeviceCopies(context)
  context.events.emit('tierFailed', { tier: 'device', code, message })
}

/** Gives up the device copies that nothing pins, when the device was lost. */
export function forgetDeviceCopies(context: MovementContext): void {
  if (context.device.failure === null) return
  for (const tiers of context.groups) while (forgetOne(context, tiers));
}

function forgetOne(context: MovementContext, tiers: GroupTiers): boolean {
  const { blocks } = tiers
  const entry = blocks.victimToMove(DEVICE)
  if (entry < 0) return false
  if (!isKept(tiers, entry)) {
    const lost = blocks.drop(entry)
    context.counters.lost += lost
    const reason = context.device.failure?.code ?? ''
    context.events.emit('lost', { tier: 'device', blocks: lost, group: tiers.group.name, reason })
  }
  return evictNow(context, tiers, entry, DEVICE)
}
