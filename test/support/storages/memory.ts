/** Memory that the processor can address: host memory, and device memory of kind `host`, owned and borrowed. */
import { binding, type LayoutKindName, type StorageHandle } from '../../../lib/native/binding.ts'
import { completions } from '../../../lib/native/completions.ts'
import { LAYOUT_KINDS } from '../../../lib/native/generated.ts'
import { closeQuietly } from './closing.ts'
import type { OpenedStorage, Opening, StorageKind, Way } from './kind.ts'
import { blockBytesOf, LentMemory } from './lent-memory.ts'

/** Memory of the addon's own. */
export async function openMemory(
  layout: LayoutKindName,
  { shape, slotCount }: Pick<Opening, 'shape' | 'slotCount'>,
): Promise<StorageHandle> {
  return await completions().call((ticket) => binding.startOpenMemory(ticket, layout, shape, slotCount))
}

async function openOwned(layout: LayoutKindName, opening: Opening): Promise<OpenedStorage> {
  const storage = await openMemory(layout, opening)
  const opened = { storage, contents: null, close: () => closeQuietly(storage) }
  if (layout !== 'contiguous') return opened
  const look = <T>(slot: number, use: (bytes: Uint8Array) => T): T => {
    const window = binding.openWindow(storage, slot)
    try {
      return use(new Uint8Array(window))
    } finally {
      binding.closeWindow(window)
    }
  }
  return {
    ...opened,
    read: (slot) => look(slot, (bytes) => bytes.slice(0, blockBytesOf(opening.shape))),
    flip: (slot, byte) =>
      look(slot, (bytes) => {
        bytes[byte]! ^= 0x10
      }),
  }
}

async function openBorrowed(layout: LayoutKindName, { shape, slotCount }: Opening): Promise<OpenedStorage> {
  const memory = new LentMemory(layout, shape, slotCount)
  return {
    storage: memory.storage,
    contents: null,
    read: (slot) => memory.read(slot),
    flip: (slot, byte) => memory.flip(slot, byte),
    close: () => closeQuietly(memory.storage),
  }
}

const COPIES = (['memoryToMemory', 'memoryToMemoryChecked'] as const).flatMap((path) =>
  LAYOUT_KINDS.map((other): Way => ({ path, other, via: 'none' })),
)

const COMMON = {
  kind: 'memory',
  into: [
    ...COPIES,
    { path: 'slabToMemory', other: 'slab', via: 'none' },
    { path: 'slabToMemoryVia', other: 'slab', via: 'staging' },
    { path: 'slabToMemoryVia', other: 'slab', via: 'slots' },
  ],
  outOf: [...COPIES, { path: 'memoryToSlab', other: 'slab', via: 'none' }],
  check: null,
  persistent: false,
  canBeFaulted: false,
} as const satisfies Partial<StorageKind>

/** Host memory, whose slots blocks also pass on their way from disk to device. */
export const hostMemory: StorageKind = {
  ...COMMON,
  name: 'host memory',
  tier: 'host',
  layout: 'contiguous',
  into: [...COMMON.into, { path: 'slabToMemoryVia', other: 'slab', via: 'itself' }],
  withoutRoom: 'ERR_KV_OUT_OF_MEMORY',
  open: (opening) => openOwned('contiguous', opening),
}

/** Device memory that the addon allocates, in one layout. */
export function ownedDevice(layout: LayoutKindName): StorageKind {
  return {
    ...COMMON,
    name: `owned device memory (${layout})`,
    tier: 'device',
    layout,
    withoutRoom: 'ERR_KV_OUT_OF_MEMORY',
    open: (opening) => openOwned(layout, opening),
  }
}

/** Device memory that an engine lends, in one layout. */
export function borrowedDevice(layout: LayoutKindName): StorageKind {
  return {
    ...COMMON,
    name: `borrowed device memory (${layout})`,
    tier: 'device',
    layout,
    withoutRoom: null,
    open: (opening) => openBorrowed(layout, opening),
  }
}
