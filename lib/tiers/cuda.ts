/**
 * G1 on GPUs: allocated here, lent by an engine of this process, or opened from another process.
 */
import type { CudaIpcRegion, CudaPointerRegion, CudaRegion, ResolvedCudaDevice } from '../device-options.js'
import { invalidType, invalidValue, KvError } from '../errors.js'
import { groupShapeOf, type ModelLayout } from '../identity/model-layout.js'
import type { Binding, DeviceRanges, GroupShape, ProbeResult, StorageHandle } from '../native/binding.js'
import type { Completions } from '../native/completions.js'

/** The GPUs of this machine, as a probe sees them. */
export type Gpus = ProbeResult['cuda']

/** One layer group's memory, and the GPUs that it lies on, each once; none for memory of kind `host`. */
export interface OpenedGroup {
  readonly storage: StorageHandle
  readonly ordinals: readonly number[]
}

/** Opens the memory of a layer group. */
export type OpenGroup = (group: string, shape: GroupShape) => Promise<OpenedGroup>

/** GPUs that were looked at. */
export interface Cuda {
  readonly gpus: Gpus
  readonly open: OpenGroup
}

/** What this machine's CUDA driver offers. */
export async function probeGpus(binding: Binding, completions: Completions): Promise<Gpus> {
  const { cuda } = await completions.call<ProbeResult>((ticket) => binding.startProbe(ticket, ''))
  return cuda
}

/** Whether a GPU of that name is the simulated driver's, whose times say nothing about a GPU. */
export function isSimulated(name: string): boolean {
  return name.startsWith('kvtier simulated GPU')
}

/**
 * Looks at the GPUs and checks what was asked for against them.
 *
 * @throws KvError ERR_KV_UNSUPPORTED without a usable driver; ERR_KV_INVALID_VALUE for a GPU that is not there
 */
export async function openCuda(
  binding: Binding,
  completions: Completions,
  layout: ModelLayout,
  device: ResolvedCudaDevice,
): Promise<Cuda> {
  const gpus = await probeGpus(binding, completions)
  if (!gpus.available) {
    throw new KvError(
      'ERR_KV_UNSUPPORTED',
      `device.kind 'cuda' was asked for, but no GPU can be used here: ${gpus.reason}`,
    )
  }
  const { ordinals, regions, slots, layout: kind } = device
  checkOrdinals(gpus, layout, ordinals)
  const call = (start: (ticket: number) => void): Promise<StorageHandle> => completions.call<StorageHandle>(start)
  if (regions === null) {
    const at = Uint32Array.from(ordinals)
    return {
      gpus,
      open: async (_, shape) => ({
        storage: await call((ticket) => binding.startOpenDevice(ticket, at, kind, shape, slots)),
        ordinals: [...new Set(ordinals)],
      }),
    }
  }
  const open = async (group: string, shape: GroupShape): Promise<OpenedGroup> => {
    const given = regionsOf(regions, group)
    const name = `device.regions.${group}`
    if (isShared(given)) {
      const at = Uint32Array.from(given, (region, i) => ordinalOfShared(`${name}[${i}]`, gpus, region))
      const handles = given.map(({ ipc }) => ipc)
      const offsets = Float64Array.from(given, ({ offset }) => offset ?? 0)
      const bytes = Float64Array.from(given, (region) => region.bytes)
      const start = (ticket: number): void =>
        binding.startImportDevice(ticket, kind, shape, slots, at, handles, offsets, bytes, given[0]?.pid ?? 0)
      return { storage: await call(start), ordinals: [...new Set(at)] }
    }
    const ranges = rangesOf(binding, name, gpus, given as readonly CudaPointerRegion[])
    const start = (ticket: number): void => binding.startBorrowDevice(ticket, kind, shape, slots, ranges)
    return { storage: await call(start), ordinals: [...new Set(ranges.ordinals)] }
  }
  return { gpus, open }
}

/** The regions of a layer group, or an error that names it. */
export function regionsOf<T>(regions: Readonly<Record<string, readonly T[]>>, group: string): readonly T[] {
  const found = Object.hasOwn(regions, group) ? regions[group] : undefined
  if (found !== undefined) return found
  throw new KvError(
    'ERR_KV_INVALID_VALUE',
    `device.regions has no entry for layer group ${group}; name its memory as one region a part and layer (one in all for ` +
      'the layout contiguous).',
  )
}

function checkOrdinals(gpus: Gpus, layout: ModelLayout, ordinals: readonly number[]): void {
  const name = ordinals.length > 1 ? 'device.ordinals' : 'device.ordinal'
  for (const ordinal of ordinals) checkOrdinal(gpus, name, ordinal)
  if (ordinals.length < 2) return
  for (const group of layout.groups) {
    const { parts } = groupShapeOf(group, layout.tokensPerBlock)
    if (parts === ordinals.length) continue
    invalidValue('device.ordinals', `one GPU, or one for each of the ${parts} parts of ${group.name}`, ordinals.length)
  }
}

function checkOrdinal(gpus: Gpus, name: string, ordinal: number): number {
  const count = gpus.devices.length
  if (ordinal >= count) invalidValue(name, `the number of a GPU (this process sees ${count}, from 0 on)`, ordinal)
  return ordinal
}

function isShared(regions: readonly CudaRegion[]): regions is readonly CudaIpcRegion[] {
  const [first] = regions
  return first !== undefined && 'ipc' in first
}

/** The same UUID may be written with or without what nvidia-smi puts before it. */
const plainUuid = (uuid: string): string => uuid.toLowerCase().replace(/^gpu-/, '')

function ordinalOfShared(name: string, gpus: Gpus, { uuid, ordinal }: CudaIpcRegion): number {
  if (uuid === undefined) return checkOrdinal(gpus, `${name}.ordinal`, ordinal ?? 0)
  const found = gpus.deviceDetails.findIndex((each) => each.uuid !== '' && plainUuid(each.uuid) === plainUuid(uuid))
  const there = gpus.deviceDetails.map((each) => each.uuid).join(', ')
  if (found < 0) invalidValue(`${name}.uuid`, `the UUID of a GPU that this process sees (${there})`, uuid)
  return found
}

function rangesOf(binding: Binding, name: string, gpus: Gpus, regions: readonly CudaPointerRegion[]): DeviceRanges {
  const ordinals = new Uint32Array(regions.length)
  const addresses = new BigUint64Array(regions.length)
  const bytes = new Float64Array(regions.length)
  regions.forEach((region, i) => {
    const range = rangeOf(binding, `${name}[${i}]`, region)
    ordinals[i] = checkOrdinal(gpus, `${name}[${i}].ordinal`, range.ordinal)
    addresses[i] = range.address
    bytes[i] = range.bytes
  })
  return { ordinals, addresses, bytes }
}

function rangeOf(
  binding: Binding,
  name: string,
  { pointer, bytes, ordinal }: CudaPointerRegion,
): { address: bigint; bytes: number; ordinal: number } {
  if (typeof pointer === 'bigint') return { address: pointer, bytes: bytes ?? 0, ordinal: ordinal ?? 0 }
  const external = binding.readExternal(pointer)
  if (external.kind !== 'memory') {
    invalidType(`${name}.pointer`, 'an External of device memory', `one of ${external.kind}`)
  }
  const size = bytes ?? external.bytes
  if (size === 0) invalidValue(`${name}.bytes`, 'given, as the External does not say its size', bytes)
  if (external.bytes > 0 && size > external.bytes) {
    invalidValue(`${name}.bytes`, `at most the ${external.bytes} bytes of the External`, size)
  }
  return { address: external.address, bytes: size, ordinal: ordinal ?? Math.max(0, external.ordinal) }
}
