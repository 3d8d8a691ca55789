/**
 * Closing what was opened: the storages of all tiers beside each other, then the store that their slabs belong to.
 */
import type { Binding, StorageHandle, StoreHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { TierSlots } from './types.js'

/**
 * Closes every storage, and the store when the last of them is closed, whichever fails.
 *
 * @throws KvError the first failure, in the order of the tiers, once everything that can be closed is
 */
export async function closeHandles(
  binding: Binding,
  completions: Completions,
  tiers: readonly TierSlots[],
  store: StoreHandle | null,
): Promise<void> {
  const close = (handle: StorageHandle | StoreHandle): Promise<undefined> =>
    completions.call<undefined>((ticket) => binding.startClose(ticket, handle))
  const storages = tiers.flatMap((tier) => (tier.storage === null ? [] : [tier.storage]))
  const ends = await Promise.allSettled(storages.map(close))
  if (store !== null) ends.push(...(await Promise.allSettled([close(store)])))
  const failed = ends.find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
