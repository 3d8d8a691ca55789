/**
 * G1: device memory of kind `host`, owned (kvtier accounts its slots) or borrowed (the engine names them in every call).
 */
import { KvError } from '../errors.js'
import { groupShapeOf, type ModelLayout } from '../identity/model-layout.js'
import type { Binding, StorageHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import type { ResolvedOptions } from '../options.js'
import { NO_TIER, type TierSlots } from './types.js'

/**
 * Opens G1 for every layer group.
 *
 * @throws KvError ERR_KV_OUT_OF_MEMORY; ERR_KV_INVALID_VALUE when borrowed regions are missing or have other sizes than
 * the layout needs
 */
export async function openDeviceTier(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  device: ResolvedOptions['device'],
): Promise<TierSlots[]> {
  if (device === null) return layout.groups.map(() => NO_TIER)
  const kind = device.layout ?? 'layersKvInner'
  const tiers: TierSlots[] = []
  for (const group of layout.groups) {
    const shape = groupShapeOf(group, layout.tokensPerBlock)
    if ('regions' in device) {
      const regions = device.regions[group.name]
      if (regions === undefined) {
        throw new KvError(
          'ERR_KV_INVALID_VALUE',
          `device.regions has no entry for layer group ${group.name}; name its memory as one array a part and layer.`,
        )
      }
      const storage = binding.borrowMemory(kind, shape, device.slots, regions)
      tiers.push({ storage, slotCount: device.slots, accounted: false })
    } else {
      const storage = await completions.call<StorageHandle>((ticket) =>
        binding.startOpenMemory(ticket, kind, shape, device.slots),
      )
      tiers.push({ storage, slotCount: device.slots, accounted: true })
    }
  }
  return tiers
}
