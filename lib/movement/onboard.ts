/**
 * Onboard: the longest held prefix of a prompt, towards the GPU.
 */
import { CODE } from '../native/generated.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import { countMisses, type MovementContext, sweepExpired } from './context.js'
import { DeviceSlots } from './device-slots.js'
import { forgetDeviceCopies } from './device-state.js'
import { type FenceFailure, waitForFence } from './fence.js'
import { GroupOnboard, type OnboardPlan, sourceOf } from './group-onboard.js'
import { type FullMatch, matchPrefix } from './match.js'
import { Outcomes, type TransferControl, type TransferResult } from './transfer.js'

const BEHIND_A_MISS = 'A block before it, or one that its window needs, did not arrive.'

/** Runs an onboard; resolves with the outcome of every block of the match. */
export async function runOnboard(
  context: MovementContext,
  plan: OnboardPlan,
  control: TransferControl,
): Promise<TransferResult> {
  const prepared = plan.hashes.prepare()
  control.settleAfter(prepared.catch(() => undefined))
  if (!(await control.wait(prepared))) return endedEarly(control).result(0, null)
  await prepared
  const stopped = await waitForFence(control, plan.after)
  let match = matchNow(context, plan)
  for (
    let joins = joinsOf(context, plan, match);
    stopped === null && joins.length > 0;
    joins = joinsOf(context, plan, match)
  ) {
    if (!(await control.wait(Promise.all(joins)))) break
    match = matchNow(context, plan)
  }
  // No await from the match to the start of the native batches: nothing can leave, or be begun by another, between.
  const outcomes = new Outcomes(match.blocks)
  const failure = stopped ?? failureNow(context, plan, control)
  const groups = context.groups.map((tiers) => new GroupOnboard(context, tiers, plan, match, control, outcomes))
  let handedOver = false
  try {
    if (failure !== null) {
      for (let i = 0; i < match.blocks; i++) outcomes.fail(i, failure.code, failure.message)
      countMisses(context, failure.code, match.blocks)
    } else {
      for (const group of groups) group.pinSources()
      const moving = Promise.all(groups.map((group) => group.move()))
      // Every native batch was begun before the first await, and what gets no slot has failed by now.
      if (isWhole(outcomes)) plan.ready?.seal(() => takeQueued(context, groups, match, outcomes, control))
      else plan.ready?.refuse()
      await moving
    }
    for (const group of groups) group.finish()
    const usable = usableBlocks(groups, outcomes.run)
    outcomes.failFrom(usable, 'ERR_KV_PARENT_LOST', BEHIND_A_MISS)
    const pin = plan.to === 'device' && plan.into === null ? collectPin(context, plan, groups, usable) : null
    const result = outcomes.result(usable * context.tokensPerBlock, pin)
    if (plan.keepPins !== undefined) {
      plan.keepPins(() => releaseAll(groups), match.entries)
      handedOver = true
    }
    return result
  } finally {
    if (!handedOver) releaseAll(groups)
    // What was pinned when a GPU was lost could not be forgotten then.
    forgetDeviceCopies(context)
  }
}

/** Why an onboard cannot begin now. */
function failureNow(context: MovementContext, plan: OnboardPlan, control: TransferControl): FenceFailure | null {
  if (control.code !== null) return { code: control.code, message: '' }
  return plan.to === 'device' ? context.device.failure : null
}

/** Whether no block has failed. */
function isWhole(outcomes: Outcomes): boolean {
  return outcomes.codes.every((code) => code === CODE.OK)
}

/** The slots of all blocks, which are the caller's from here on; null where some block will not be there. */
function takeQueued(
  context: MovementContext,
  groups: readonly GroupOnboard[],
  match: FullMatch,
  outcomes: Outcomes,
  control: TransferControl,
): readonly Uint32Array[] | null {
  if (match.blocks === 0 || control.code !== null || context.device.failure !== null) return null
  if (!isWhole(outcomes)) return null
  if (!groups.every((group) => group.covers(match.blocks))) return null
  control.commit()
  return groups.map((group) => group.deviceSlots())
}

/** The longest prefix that can be used: where a block failed, the window or the state of a shorter one may not be there. */
function usableBlocks(groups: readonly GroupOnboard[], run: number): number {
  let count = run
  while (count > 0 && !groups.every((group) => group.covers(count))) count--
  return count
}

/** Ended before it was known which blocks are held. */
function endedEarly(control: TransferControl): Outcomes {
  const outcomes = new Outcomes(0)
  outcomes.message = `${control.code} before the prompt was looked up`
  return outcomes
}

/** Lets go of all that was not handed to the caller. */
function releaseAll(groups: readonly GroupOnboard[]): void {
  for (const group of groups) {
    group.takeDevice(0)
    group.releasePins()
  }
}

function matchNow(context: MovementContext, plan: OnboardPlan): FullMatch {
  const { hashes } = plan
  // Before the match: what it finds must not be dropped until it is pinned.
  for (const tiers of context.groups) sweepExpired(context, tiers)
  const count = Math.min(hashes.hashedCount, plan.maxBlocks)
  const whole = count * context.tokensPerBlock === hashes.tokenCount
  return matchPrefix(context, hashes.words, count, plan.leaveLast, whole, plan.firstWanted)
}

/**
 * What is bringing blocks of the match to where this onboard wants them, or nearer than disk: a block that is being loaded
 * is joined, not loaded twice.
 */
function joinsOf(context: MovementContext, plan: OnboardPlan, match: FullMatch): Promise<unknown>[] {
  const target = plan.to === 'host' ? HOST : DEVICE
  const joins = new Set<Promise<unknown>>()
  for (const tiers of context.groups) {
    const { blocks } = tiers
    for (const entry of match.entries[tiers.index] ?? []) {
      const pending = entry < 0 ? undefined : context.pending.get(blocks.pendingOf(entry))
      if (pending === undefined) continue
      if (sourceOf(tiers, plan.to, entry) === DISK || blocks.isFilling(entry, target)) joins.add(pending)
    }
  }
  return [...joins]
}

function collectPin(
  context: MovementContext,
  plan: OnboardPlan,
  groups: readonly GroupOnboard[],
  count: number,
): DeviceSlots {
  const held = groups.map((group) => group.takeDevice(count))
  return new DeviceSlots(context, {
    slots: held.map((group) => group.slots),
    entries: held.map((group) => group.entries),
    hashes: plan.hashes,
  })
}
