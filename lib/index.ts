/**
 * The public names of kvtier, and nothing else.
 */
export { BlockManager, type CloseOptions, type SequenceOptions } from './block-manager.js'
export type {
  BorrowedCudaDevice,
  BorrowedDevice,
  CopyStrategies,
  CopyStrategyName,
  CudaIpcRegion,
  CudaPointerRegion,
  CudaRegion,
  DeviceOptions,
  OwnedCudaDevice,
  OwnedDevice,
} from './device-options.js'
export { type ErrorCode, isKvError, KvError } from './errors.js'
export type { ManagerEvents } from './events.js'
export type { ModelIdentity } from './identity/fingerprint.js'
export {
  blockBytesOf,
  bytesPerTokenOf,
  defineLayout,
  type LayerGroup,
  type LayerGroupInput,
  type LayerKind,
  type LayoutInput,
  type LayoutOptions,
  layoutOf,
  type ModelLayout,
} from './identity/model-layout.js'
export { SHARED, type Tenant } from './identity/salt.js'
export type { ExtraKey, ExtraKeyAt, Tokens } from './identity/sequence-hashes.js'
export type { DeviceAccess, DeviceRegion } from './movement/device-access.js'
export type { DevicePin, DeviceSlots } from './movement/device-slots.js'
export {
  type EventFence,
  type Fence,
  type FenceOptions,
  fence,
  type IpcFence,
  type PromiseFence,
  type QuietFence,
  type StreamFence,
} from './movement/fence.js'
export type { FlushOptions } from './movement/flush.js'
export type { HostAccess, LoadOptions, ReserveOptions } from './movement/host-access.js'
export type { HostReading } from './movement/host-reading.js'
export type { HostReservation, PublishOptions } from './movement/host-reservation.js'
export type { LayerEvents } from './movement/layer-events.js'
export type { Match, MatchEnd } from './movement/match.js'
export type { OffloadOptions, OnboardOptions, Sequence, SlotsByGroup } from './movement/sequence.js'
export type { Transfer, TransferLimits, TransferResult } from './movement/transfer.js'
export type { DirectLoads, DiskToDevice, LayoutKindName } from './native/binding.js'
export { GiB, type GpuDirect, KiB, type ManagerOptions, MiB, type Quota } from './options.js'
export type { Counters, ManagerStats, TierStats } from './stats.js'
export type { TierName } from './tiers/types.js'
