/**
 * The memory that a replay's engine computes in, and lends to the block manager: plain memory in the place of a GPU's, or
 * a GPU's.
 */
import type { DeviceOptions } from '../../device-options.js'
import { slotBytesOfShape } from '../../identity/model-layout.js'
import { binding, type GroupShape, type StorageHandle } from '../../native/binding.js'
import { completions } from '../../native/completions.js'

/** Where a replay's blocks are computed. */
export type EngineKind = 'host' | 'cuda'

/** Memory of one layer group. */
export interface EngineMemory {
  /** The same memory as the engine's own storage. */
  readonly storage: StorageHandle
  /** What lends it to a block manager. */
  readonly device: DeviceOptions
}

/**
 * Allocates memory for `slots` blocks. The engine must be open.
 *
 * @throws KvError ERR_KV_UNSUPPORTED without a GPU; ERR_KV_OUT_OF_MEMORY
 */
export async function openEngineMemory(
  kind: EngineKind,
  group: string,
  shape: GroupShape,
  slots: number,
): Promise<EngineMemory> {
  if (kind === 'host') {
    const memory = new Uint8Array(slotBytesOfShape(shape) * slots)
    return {
      storage: binding.borrowMemory('contiguous', shape, slots, [memory]),
      device: { kind, layout: 'contiguous', slots, regions: { [group]: [memory] } },
    }
  }
  // As engines have it: a region a layer.
  const layout = 'layersKvInner'
  const storage = await completions().call<StorageHandle>((ticket) =>
    binding.startOpenDevice(ticket, Uint32Array.of(0), layout, shape, slots),
  )
  const { ordinals, addresses, bytes } = binding.deviceRanges(storage)
  const regions = Array.from(addresses, (pointer, i) => ({
    pointer,
    bytes: bytes[i] ?? 0,
    ordinal: ordinals[i] ?? 0,
  }))
  return { storage, device: { kind, layout, slots, regions: { [group]: regions } } }
}
