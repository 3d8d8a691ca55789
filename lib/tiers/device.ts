/**
 * G1: device memory, owned (kvtier accounts its slots) or borrowed (the engine names them in every call). How memory of
 * kind `cuda` is opened is in cuda.ts.
 */
import type { ResolvedCudaDevice, ResolvedHostDevice } from '../device-options.js'
import { groupShapeOf, type ModelLayout } from '../identity/model-layout.js'
import type { Binding, StorageHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import { calibrate } from './calibration.js'
import { cacheFolder } from './choices-file.js'
import { type OpenGroup, openCuda, regionsOf } from './cuda.js'
import { NO_TIER, type TierSlots } from './types.js'

/**
 * Opens G1 for every layer group.
 *
 * @param opened - receives every tier as soon as it is open, so that the caller can close it when a later one fails
 * @throws KvError ERR_KV_OUT_OF_MEMORY; ERR_KV_INVALID_VALUE when borrowed regions are missing or have other sizes than
 * the layout needs; of kind `cuda` also ERR_KV_UNSUPPORTED, ERR_KV_INVALID_TYPE, ERR_KV_DEVICE_LOST, ERR_KV_IO
 */
export async function openDeviceTier(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  device: ResolvedHostDevice | ResolvedCudaDevice | null,
  opened: TierSlots[],
): Promise<TierSlots[]> {
  if (device === null) return layout.groups.map(() => NO_TIER)
  const tiers: TierSlots[] = []
  const openAll = async (open: OpenGroup): Promise<TierSlots[]> => {
    for (const group of layout.groups) {
      const { storage, ordinals } = await open(group.name, groupShapeOf(group, layout.tokensPerBlock))
      const cuda = ordinals.length > 0 ? { ordinals, layout: device.layout } : null
      const tier = { storage, slotCount: device.slots, accounted: device.regions === null, cuda }
      opened.push(tier)
      tiers.push(tier)
    }
    return tiers
  }
  if (device.kind === 'host') return await openAll(openerOfHost(binding, completions, device))
  const { gpus, open } = await openCuda(binding, completions, layout, device)
  await openAll(open)
  const calibrating = { binding, completions, gpus, folder: cacheFolder() }
  await calibrate(calibrating, ordinalsOf(tiers), device.strategies)
  return tiers
}

function openerOfHost(binding: Binding, completions: Completions, device: ResolvedHostDevice): OpenGroup {
  const { slots, layout, regions } = device
  return async (group, shape) => ({
    storage:
      regions === null
        ? await completions.call<StorageHandle>((ticket) => binding.startOpenMemory(ticket, layout, shape, slots))
        : binding.borrowMemory(layout, shape, slots, regionsOf(regions, group)),
    ordinals: [],
  })
}

/** The GPUs that tiers lie on, each once, in their order. */
export function ordinalsOf(tiers: readonly TierSlots[]): number[] {
  return [...new Set(tiers.flatMap((tier) => tier.cuda?.ordinals ?? []))]
}
