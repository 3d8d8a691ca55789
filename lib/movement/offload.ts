/**
 * Offload: a sequence's blocks from device slots to host memory, and on to disk when that is asked for.
 */
import { invalidValue, KvError } from '../errors.js'
import { DEVICE, DISK } from '../tiers/types.js'
import { countMisses, type MovementContext } from './context.js'
import { waitForFence } from './fence.js'
import { GroupOffload, type OffloadPlan } from './group-offload.js'
import { heldTokens } from './match.js'
import { Outcomes, type TransferControl, type TransferResult } from './transfer.js'

/**
 * Checks what a caller asks for against the tiers that there are.
 *
 * @throws KvError ERR_KV_UNSUPPORTED for `until: 'disk'` without a disk tier
 */
export function checkUntil(context: MovementContext, until: unknown): 'host' | 'disk' {
  if (until === undefined || until === 'host') return 'host'
  if (until !== 'disk') return invalidValue('until', "'host' or 'disk'", until)
  if (context.groups.every((tiers) => tiers.tiers[DISK].storage !== null)) return 'disk'
  throw new KvError(
    'ERR_KV_UNSUPPORTED',
    "Blocks were to be stored until: 'disk', but the manager has no disk tier; open it with a `disk`.",
  )
}

/** Runs an offload; resolves with the outcome of every block. */
export async function runOffload(
  context: MovementContext,
  plan: OffloadPlan,
  control: TransferControl,
): Promise<TransferResult> {
  const outcomes = new Outcomes(plan.blockCount)
  const prepared = plan.hashes.prepare()
  control.settleAfter(prepared.catch(() => undefined))
  await control.wait(prepared)
  const failure = (await waitForFence(control, plan.after)) ?? context.device.failure
  if (failure !== null) {
    for (let i = 0; i < plan.blockCount; i++) outcomes.fail(i, failure.code, failure.message)
    countMisses(context, failure.code, plan.blockCount)
  } else {
    await Promise.all(context.groups.map((tiers) => new GroupOffload(context, tiers, plan, control, outcomes).run()))
    outcomes.placeUnneeded()
  }
  const { hashes, firstBlock, blockCount, until } = plan
  const tokens = heldTokens(context, hashes.words, firstBlock, outcomes.run, blockCount)
  return outcomes.result(tokens, null, until === 'disk' ? DISK : DEVICE)
}
