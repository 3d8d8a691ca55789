/**
 * The option `device` of `BlockManager.open`: what G1 is made of, and its validation in the voice of options.ts.
 */
import { integer, invalidType, invalidValue, object, optionsOf } from './errors.js'
import type { LayoutKindName } from './native/binding.js'
import { COPY_STRATEGIES, LAYOUT_KINDS } from './native/generated.js'

/** Host memory in the place of a GPU's, whose slots kvtier accounts: G1 is a tier that hits like any other. */
export interface OwnedDevice {
  /** `host`: plain memory laid out as a GPU's would be, for machines without one. */
  readonly kind: 'host'
  /** Blocks of every layer group that fit. */
  readonly slots: number
  /** How the memory lies (default `layersKvInner`). */
  readonly layout?: LayoutKindName
}

/** Host memory in the place of a GPU's that the engine accounts and names in every call. */
export interface BorrowedDevice {
  readonly kind: 'host'
  /** Slots of every layer group that the regions hold. */
  readonly slots: number
  readonly layout?: LayoutKindName
  /**
   * The engine's memory, by layer group name: one array for `contiguous`, otherwise one a part and layer. It stays in
   * place until the manager is closed.
   */
  readonly regions: Readonly<Record<string, readonly Uint8Array[]>>
}

/**
 * A way to copy between a GPU and host memory: `single` copies, two-dimensional ones (`rectangle`), copies handed over in
 * a `batch`, a `kernel` that reads or writes pinned host memory, or a kernel that packs in the GPU's memory beside one
 * copy (`staged`).
 */
export type CopyStrategyName = (typeof COPY_STRATEGIES)[number]

/** How the way to copy is chosen: by size and number of fragments, from what was measured on this GPU. */
export interface CopyStrategies {
  /**
   * Ways not to use on these GPUs: what any manager of this thread has forbidden holds for all of them, until the process
   * ends. Managers of several threads share a GPU's copies and should forbid the same: what was opened last counts.
   * `single` cannot be forbidden: it is what the others fall back to.
   */
  readonly forbid?: readonly CopyStrategyName[]
  /**
   * `once` (default): measured when this GPU is used with this driver for the first time, and kept in the user's cache
   * folder (`$XDG_CACHE_HOME/kvtier`, or `~/.cache/kvtier`). `again`: measured now, and kept. `never`: what suits most GPUs.
   */
  readonly measure?: 'once' | 'again' | 'never'
}

/** A GPU's memory that kvtier allocates and accounts: G1 is a tier that hits like any other. */
export interface OwnedCudaDevice {
  readonly kind: 'cuda'
  /** The GPU, as the driver numbers those that this process sees (default 0). */
  readonly ordinal?: number
  /** Instead of `ordinal`, where the parts of a block lie on several GPUs (tensor parallel): a GPU for each part. */
  readonly ordinals?: readonly number[]
  /** Blocks of every layer group that fit. */
  readonly slots: number
  /** How the memory lies (default `layersKvInner`). */
  readonly layout?: LayoutKindName
  readonly strategies?: CopyStrategies
}

/** A range of a GPU's memory in this process. */
export interface CudaPointerRegion {
  /** Its address, or the External of another addon (see native/include/kvtier.h) that stands for it. */
  readonly pointer: bigint | object
  /** Its size; may be left out for an External that says it. */
  readonly bytes?: number
  /** The GPU (default: what the External says, otherwise 0). */
  readonly ordinal?: number
}

/** A range of a GPU's memory that another process of this machine has allocated. */
export interface CudaIpcRegion {
  /**
   * The handle of the whole allocation: the 64 bytes of cuIpcGetMemHandle, or the bytes that PyTorch's
   * `untyped_storage()._share_cuda_()` has in the second place.
   */
  readonly ipc: Uint8Array
  /** Where the range begins in the allocation (default 0). */
  readonly offset?: number
  /** Size of the range. */
  readonly bytes: number
  /** The GPU, as `nvidia-smi -L` names it; its number may be another one in every process. */
  readonly uuid?: string
  /** Instead of `uuid`: the GPU's number in this process (default 0). */
  readonly ordinal?: number
  /** The process that owns the memory, so that its end is an error and not a lost GPU (default: not known). */
  readonly pid?: number
}

/** A part of an engine's device memory. */
export type CudaRegion = CudaPointerRegion | CudaIpcRegion

/**
 * A GPU's memory that the engine allocates, accounts and names in every call. Lending it is a promise: the memory stays
 * what it is until the manager has been closed. Memory that was freed is noticed at the next transfer, whose blocks are
 * misses then, as far as the driver can tell; a transfer that runs at that moment reads or writes whatever is there. Memory of
 * another process must outlive the manager, too: close the manager before that process frees it or ends.
 */
export interface BorrowedCudaDevice {
  readonly kind: 'cuda'
  /** Slots of every layer group that the regions hold. */
  readonly slots: number
  readonly layout?: LayoutKindName
  /**
   * The engine's memory, by layer group name: one region for `contiguous` (on several GPUs one a part), otherwise one a
   * part and layer. Those of one group are all pointers, or all of another process.
   */
  readonly regions: Readonly<Record<string, readonly CudaRegion[]>>
  readonly strategies?: CopyStrategies
}

/** Everything that the option `device` takes. */
export type DeviceOptions = OwnedDevice | BorrowedDevice | OwnedCudaDevice | BorrowedCudaDevice

/** Device memory of kind `host` with every default filled in. */
export interface ResolvedHostDevice {
  readonly kind: 'host'
  readonly slots: number
  readonly layout: LayoutKindName
  /** null where kvtier owns the memory. */
  readonly regions: Readonly<Record<string, readonly Uint8Array[]>> | null
}

/** Device memory of kind `cuda` with every default filled in. */
export interface ResolvedCudaDevice {
  readonly kind: 'cuda'
  readonly slots: number
  readonly layout: LayoutKindName
  /** Owned memory: one GPU, or one a part. Empty for borrowed memory, whose regions say where they are. */
  readonly ordinals: readonly number[]
  /** null where kvtier owns the memory. */
  readonly regions: Readonly<Record<string, readonly CudaRegion[]>> | null
  readonly strategies: Required<CopyStrategies>
}

const HOST_FIELDS = ['kind', 'slots', 'layout', 'regions'] as const satisfies (keyof BorrowedDevice)[]
const CUDA_FIELDS: readonly (keyof OwnedCudaDevice | keyof BorrowedCudaDevice)[] = [
  'kind',
  'ordinal',
  'ordinals',
  'slots',
  'layout',
  'regions',
  'strategies',
]
const STRATEGY_FIELDS = ['forbid', 'measure'] as const satisfies (keyof CopyStrategies)[]
const MEASURES: readonly unknown[] = ['once', 'again', 'never']
const POINTER_FIELDS = ['pointer', 'bytes', 'ordinal'] as const satisfies (keyof CudaPointerRegion)[]
const IPC_FIELDS = ['ipc', 'offset', 'bytes', 'uuid', 'ordinal', 'pid'] as const satisfies (keyof CudaIpcRegion)[]
const HIGHEST_ORDINAL = 1023
const HIGHEST_ADDRESS = 2n ** 64n - 1n

/** The number of a GPU, or an error that names the argument. */
export function ordinalOf(name: string, value: unknown): number {
  return integer(name, value, 0, HIGHEST_ORDINAL)
}

/** An address on a GPU or of an object of the driver, or an error that names the argument. */
export function addressOf(name: string, value: bigint, least: bigint): bigint {
  if (value < least || value > HIGHEST_ADDRESS) invalidValue(name, 'an address of 64 bits', value)
  return value
}

/**
 * Checks the option `device` and fills in its defaults.
 *
 * @throws KvError ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE naming the option
 */
export function resolveDevice(value: unknown): ResolvedHostDevice | ResolvedCudaDevice | null {
  if (value === undefined) return null
  const { kind } = object('device', value)
  if (kind !== 'host' && kind !== 'cuda') invalidValue('device.kind', "'host' or 'cuda'", kind)
  const device = optionsOf('device', value, kind === 'host' ? HOST_FIELDS : CUDA_FIELDS)
  const slots = integer('device.slots', device.slots, 1, 0x7fffffff)
  const layout = (device.layout ?? 'layersKvInner') as LayoutKindName
  if (!LAYOUT_KINDS.includes(layout)) invalidValue('device.layout', `one of ${LAYOUT_KINDS.join(', ')}`, layout)
  if (kind === 'host') return { kind, slots, layout, regions: resolveArrays(device.regions) }
  const regions = resolveRegions(device.regions)
  const ordinals = resolveOrdinals(device, regions !== null)
  return { kind, slots, layout, ordinals, regions, strategies: resolveStrategies(device.strategies) }
}

function resolveArrays(value: unknown): ResolvedHostDevice['regions'] {
  if (value === undefined) return null
  const regions = object('device.regions', value)
  for (const [group, arrays] of Object.entries(regions)) {
    const name = `device.regions.${group}`
    if (!Array.isArray(arrays)) invalidType(name, 'an array of Uint8Array', arrays)
    for (const array of arrays as unknown[]) {
      if (!(array instanceof Uint8Array)) invalidType(name, 'an array of Uint8Array', array)
    }
  }
  return regions as Record<string, Uint8Array[]>
}

function resolveOrdinals(device: Record<string, unknown>, borrowed: boolean): number[] {
  const { ordinal, ordinals } = device
  if (borrowed) {
    if (ordinal !== undefined) invalidValue('device.ordinal', 'left out, as each region says its own', ordinal)
    if (ordinals !== undefined) invalidValue('device.ordinals', 'left out, as each region says its own', ordinals)
    return []
  }
  if (ordinals === undefined) return [ordinalOf('device.ordinal', ordinal ?? 0)]
  if (ordinal !== undefined) invalidValue('device.ordinal', 'left out where device.ordinals is given', ordinal)
  if (!Array.isArray(ordinals)) invalidType('device.ordinals', 'an array of GPU numbers', ordinals)
  if (ordinals.length === 0) invalidValue('device.ordinals', 'a GPU number for each part', 'empty')
  // Unlike `map`, this looks at what an array has left out as well.
  return Array.from(ordinals as unknown[], (each, i) => ordinalOf(`device.ordinals[${i}]`, each))
}

function resolveStrategies(value: unknown): Required<CopyStrategies> {
  if (value === undefined) return { forbid: [], measure: 'once' }
  const { forbid = [], measure = 'once' } = optionsOf('device.strategies', value, STRATEGY_FIELDS)
  if (!Array.isArray(forbid)) invalidType('device.strategies.forbid', 'an array of strategies', forbid)
  const allowed: readonly CopyStrategyName[] = COPY_STRATEGIES.filter((name) => name !== 'single')
  for (const name of forbid as CopyStrategyName[]) {
    if (!allowed.includes(name)) invalidValue('device.strategies.forbid', `some of ${allowed.join(', ')}`, name)
  }
  if (!MEASURES.includes(measure)) invalidValue('device.strategies.measure', `one of ${MEASURES.join(', ')}`, measure)
  return { forbid: [...(forbid as CopyStrategyName[])], measure: measure as Required<CopyStrategies>['measure'] }
}

function resolveRegions(value: unknown): ResolvedCudaDevice['regions'] {
  if (value === undefined) return null
  const resolved: Record<string, CudaRegion[]> = Object.create(null) as Record<string, CudaRegion[]>
  for (const [group, given] of Object.entries(object('device.regions', value))) {
    const name = `device.regions.${group}`
    if (!Array.isArray(given)) invalidType(name, 'an array of regions', given)
    if (given.length === 0) invalidValue(name, 'an array of at least one region', 'an empty array')
    const regions = Array.from(given as unknown[], (each, i) => resolveRegion(`${name}[${i}]`, each))
    if (new Set(regions.map((each) => 'ipc' in each)).size > 1) {
      invalidValue(name, 'of pointers alone, or of another process alone', 'a mixture')
    }
    if (new Set(regions.map((each) => ('pid' in each ? each.pid : undefined))).size > 1) {
      invalidValue(name, 'of one process', 'several values of pid')
    }
    resolved[group] = regions
  }
  return resolved
}

function resolveRegion(name: string, value: unknown): CudaRegion {
  if ('ipc' in object(name, value)) return resolveIpcRegion(name, optionsOf(name, value, IPC_FIELDS))
  const { pointer, bytes, ordinal } = optionsOf(name, value, POINTER_FIELDS)
  const isExternal = typeof pointer === 'object' && pointer !== null
  if (typeof pointer === 'bigint') addressOf(`${name}.pointer`, pointer, 1n)
  else if (!isExternal) invalidType(`${name}.pointer`, 'an address (a bigint) or an External', pointer)
  return {
    pointer: pointer as bigint | object,
    ...(bytes === undefined && isExternal ? {} : { bytes: integer(`${name}.bytes`, bytes, 1) }),
    ...(ordinal === undefined ? {} : { ordinal: ordinalOf(`${name}.ordinal`, ordinal) }),
  }
}

function resolveIpcRegion(name: string, region: Record<string, unknown>): CudaIpcRegion {
  const { ipc, offset, bytes, uuid, ordinal, pid } = region
  if (!(ipc instanceof Uint8Array)) invalidType(`${name}.ipc`, "a Uint8Array with the allocation's handle", ipc)
  if (ipc.length === 0) invalidValue(`${name}.ipc`, "the bytes of an allocation's handle", 'empty')
  if (uuid !== undefined && typeof uuid !== 'string') invalidType(`${name}.uuid`, 'the UUID of a GPU', uuid)
  if (uuid !== undefined && ordinal !== undefined) {
    invalidValue(`${name}.ordinal`, 'left out where the uuid is given', ordinal)
  }
  return {
    ipc: ipc.slice(),
    offset: integer(`${name}.offset`, offset ?? 0, 0),
    bytes: integer(`${name}.bytes`, bytes, 1),
    ...(uuid === undefined ? {} : { uuid }),
    ...(ordinal === undefined ? {} : { ordinal: ordinalOf(`${name}.ordinal`, ordinal) }),
    ...(pid === undefined ? {} : { pid: integer(`${name}.pid`, pid, 0, 0x7fffffff) }),
  }
}
