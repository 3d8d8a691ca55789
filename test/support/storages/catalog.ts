/** Every storage that suites run over. A new kind is a file beside this one and a line in the list. */
import { ON_GPU } from '../device-kind.ts'
import type { StorageKind } from './kind.ts'
import { borrowedDevice, hostMemory, ownedDevice } from './memory.ts'
import { slab } from './slab.ts'

/** Every kind of this run, opened in each way that moves its bytes differently: GPUs' memory has a run of its own. */
export const STORAGES: readonly StorageKind[] = ON_GPU
  ? (await import('./gpu.ts')).GPU_STORAGES
  : [
      hostMemory,
      ownedDevice('layersKvOuter'),
      ownedDevice('layersKvInner'),
      borrowedDevice('contiguous'),
      borrowedDevice('layersKvOuter'),
      borrowedDevice('layersKvInner'),
      slab(true),
      slab(false),
    ]
