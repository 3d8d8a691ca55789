/**
 * G3: one slab and one table a layer group in the fingerprint's directory below the root.
 */
import { groupShapeOf, type ModelLayout } from '../identity/model-layout.js'
import type { Binding, OpenedSlab, OpenedStore, SlabContents, StorageHandle, StoreHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import { RECORD_BYTES } from '../native/sizes.js'
import type { ResolvedOptions } from '../options.js'
import { slotsFor } from './host.js'
import type { TierSlots } from './types.js'

/** An open disk tier. */
export interface DiskTier {
  readonly store: StoreHandle
  readonly path: string
  /** Default key of the tenants' salts. */
  readonly secret: Uint8Array
  /** By group. */
  readonly tiers: readonly TierSlots[]
  /** By group: the blocks that a former manager left. */
  readonly contents: readonly SlabContents[]
  /** By group: whether blocks go directly from disk to a GPU; null where that was not tried. */
  readonly toDevice: readonly OpenedSlab['toDevice'][]
}

/**
 * Takes the store's directory; nothing is preallocated yet.
 *
 * @throws KvError ERR_KV_NOT_A_DIRECTORY, ERR_KV_NOT_WRITABLE, ERR_KV_UNSAFE_DIRECTORY, ERR_KV_LOCKED, ERR_KV_IO
 */
export async function openStore(
  binding: Binding,
  completions: Completions,
  disk: NonNullable<ResolvedOptions['disk']>,
  fingerprint: Uint8Array,
): Promise<OpenedStore> {
  return await completions.call<OpenedStore>((ticket) => binding.startOpenStore(ticket, disk.directory, fingerprint))
}

/**
 * Opens, preallocates and reads the slabs of every layer group.
 *
 * @param device - G1's tiers: blocks go directly from disk to a GPU's memory where that works (cuFile) and is faster, or
 * as `disk.gpuDirect` says
 * @param opened - receives every tier as soon as it is open, so that the caller can close it when a later one fails
 * @throws KvError ERR_KV_CAPACITY_TOO_SMALL, ERR_KV_NO_SPACE, ERR_KV_LAYOUT_MISMATCH, ERR_KV_NOT_WRITABLE, ERR_KV_IO,
 * ERR_KV_UNSUPPORTED
 */
export async function openDiskTier(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  disk: NonNullable<ResolvedOptions['disk']>,
  store: OpenedStore,
  device: readonly TierSlots[],
  opened: TierSlots[],
): Promise<DiskTier> {
  const slotCount = slotsFor('disk', layout, disk.capacityBytes, RECORD_BYTES)
  const tiers: TierSlots[] = []
  const contents: SlabContents[] = []
  const toDevice: OpenedSlab['toDevice'][] = []
  for (const [index, group] of layout.groups.entries()) {
    const shape = groupShapeOf(group, layout.tokensPerBlock)
    const keepOrphans = group.kind === 'sliding' || group.kind === 'recurrent'
    const slab = await completions.call<OpenedSlab>((ticket) =>
      binding.startOpenSlab(
        ticket,
        store.store,
        index,
        shape,
        slotCount,
        disk.direct,
        keepOrphans,
        directFor(disk, device[index]),
        disk.gpuDirect === 'always',
      ),
    )
    const tier = { storage: slab.storage, slotCount, accounted: true, cuda: null }
    opened.push(tier)
    tiers.push(tier)
    contents.push(slab.contents)
    toDevice.push(slab.toDevice)
  }
  return { store: store.store, path: store.path, secret: store.secret, tiers, contents, toDevice }
}

/** The device memory that blocks may go to directly: a GPU's, where each of them is one piece; null where none is to. */
function directFor(disk: NonNullable<ResolvedOptions['disk']>, device: TierSlots | undefined): StorageHandle | null {
  return disk.direct && disk.gpuDirect !== 'never' && device?.cuda?.layout === 'contiguous' ? device.storage : null
}
