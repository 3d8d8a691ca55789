/**
 * G2: host memory, one contiguous slot a block, allocated and touched at open.
 */
import { KvError } from '../errors.js'
import { groupShapeOf, type ModelLayout, slotBytesOf } from '../identity/model-layout.js'
import type { Binding, StorageHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { TierSlots } from './types.js'

/**
 * How many blocks of every layer group fit into a capacity: the same number of each, so that a prefix fits as a whole.
 *
 * @param extraPerSlot - bytes a slot takes beside its stride (a disk record)
 * @throws KvError ERR_KV_CAPACITY_TOO_SMALL
 */
export function slotsFor(tier: string, layout: ModelLayout, capacityBytes: number, extraPerSlot = 0): number {
  const perBlock = slotBytesOf(layout) + layout.groups.length * extraPerSlot
  const slots = Math.min(Math.floor(capacityBytes / perBlock), 0x7fffffff)
  if (slots < 1) {
    throw new KvError(
      'ERR_KV_CAPACITY_TOO_SMALL',
      `${tier}.capacityBytes is ${capacityBytes}, but one block of ${layout.tokensPerBlock} tokens takes ${perBlock} bytes there; ` +
        'give at least that.',
    )
  }
  return slots
}

/**
 * Opens G2 for every layer group.
 *
 * @param pinFor - the GPU whose copies the memory is registered for; null where there is none
 * @param opened - receives every tier as soon as it is open, so that the caller can close it when a later one fails
 * @throws KvError ERR_KV_CAPACITY_TOO_SMALL, ERR_KV_OUT_OF_MEMORY
 */
export async function openHostTier(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  capacityBytes: number,
  pinFor: number | null,
  opened: TierSlots[],
): Promise<TierSlots[]> {
  const slotCount = slotsFor('host', layout, capacityBytes)
  const tiers: TierSlots[] = []
  for (const group of layout.groups) {
    const shape = groupShapeOf(group, layout.tokensPerBlock)
    const storage = await completions.call<StorageHandle>((ticket) =>
      binding.startOpenMemory(ticket, 'contiguous', shape, slotCount, pinFor ?? undefined),
    )
    const tier = { storage, slotCount, accounted: true, cuda: null }
    opened.push(tier)
    tiers.push(tier)
  }
  return tiers
}
