/**
 * G1: device memory of kind `host`, owned (kvtier accounts its slots) or borrowed (the engine names them in every call).
 */
import { KvError } from '../errors.js'
import { groupShapeOf, type ModelLayout } from '../identity/model-layout.js'
import type { Binding, StorageHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { BorrowedDevice, ResolvedOptions } from '../options.js'
import { NO_TIER, type TierSlots } from './types.js'

/**
 * Opens G1 for every layer group.
 *
 * @param opened - receives every tier as soon as it is open, so that the caller can close it when a later one fails
 * @throws KvError ERR_KV_OUT_OF_MEMORY; ERR_KV_INVALID_VALUE when borrowed regions are missing or have other sizes than
 * the layout needs
 */
export async function openDeviceTier(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  device: ResolvedOptions['device'],
  opened: TierSlots[],
): Promise<TierSlots[]> {
  if (device === null) return layout.groups.map(() => NO_TIER)
  const kind = device.layout ?? 'layersKvInner'
  const tiers: TierSlots[] = []
  for (const group of layout.groups) {
    const shape = groupShapeOf(group, layout.tokensPerBlock)
    const borrowed = 'regions' in device
    const storage = borrowed
      ? binding.borrowMemory(kind, shape, device.slots, regionsOf(device, group.name))
      : await completions.call<StorageHandle>((ticket) => binding.startOpenMemory(ticket, kind, shape, device.slots))
    const tier = { storage, slotCount: device.slots, accounted: !borrowed }
    opened.push(tier)
    tiers.push(tier)
  }
  return tiers
}

function regionsOf(device: BorrowedDevice, group: string): readonly Uint8Array[] {
  const regions = device.regions[group]
  if (regions !== undefined) return regions
  throw new KvError(
    'ERR_KV_INVALID_VALUE',
    `device.regions has no entry for layer group ${group}; name its memory as one array a part and layer.`,
  )
}
