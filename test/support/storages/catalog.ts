/** Every storage that suites run over. A new kind is a file beside this one and a line in the list. */
import type { StorageKind } from './kind.ts'
import { borrowedDevice, hostMemory, ownedDevice } from './memory.ts'
import { slab } from './slab.ts'

/** Every kind, opened in each way that moves its bytes differently. */
export const STORAGES: readonly StorageKind[] = [
  hostMemory,
  ownedDevice('layersKvOuter'),
  ownedDevice('layersKvInner'),
  borrowedDevice('contiguous'),
  borrowedDevice('layersKvOuter'),
  borrowedDevice('layersKvInner'),
  slab(true),
  slab(false),
]
