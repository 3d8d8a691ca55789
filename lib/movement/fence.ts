/**
 * What a transfer must wait for before it may read or overwrite device memory. Every offload names what produced the
 * bytes and every onboard what last used the destination; there is no default, because forgetting it yields wrong bytes.
 *
 * Work of a GPU is waited for in the GPU's own queues. The point is captured in the call that names it: what the engine
 * queues later is not waited for, and its event or stream need not outlive the call.
 */
import { addressOf, ordinalOf } from '../device-options.js'
import { type ErrorCode, invalidType, invalidValue, isKvError, KvError, onlyKnown } from '../errors.js'
import type { FenceHandle } from '../native/binding.js'
import type { MovementContext } from './context.js'
import { noteDeviceLost } from './device-state.js'
import type { TransferControl } from './transfer.js'

/** The memory is quiet: nothing that was started before still reads or writes it. */
export interface QuietFence {
  readonly kind: 'quiet'
}

/** Work of this process that ends when a promise resolves; when it rejects, the transfer's blocks are misses. */
export interface PromiseFence {
  readonly kind: 'promise'
  readonly promise: Promise<unknown>
}

/** Work of a GPU that is done when an event is, as it was recorded last. */
export interface EventFence {
  readonly kind: 'event'
  /** A CUevent or cudaEvent_t: its address, or another addon's External of it. */
  readonly event: bigint | object
  readonly ordinal?: number | undefined
}

/** All work that is queued in a stream of a GPU by now. */
export interface StreamFence {
  readonly kind: 'stream'
  /** A CUstream or cudaStream_t: its address (0n is the default stream), or another addon's External of it. */
  readonly stream: bigint | object
  readonly ordinal?: number | undefined
}

/** Work of another process that is done when its event is, as it was recorded last. */
export interface IpcFence {
  readonly kind: 'ipc'
  /** The 64 bytes of cuIpcGetEventHandle. */
  readonly handle: Uint8Array
  readonly ordinal?: number | undefined
}

/** What a transfer waits for. */
export type Fence = QuietFence | PromiseFence | EventFence | StreamFence | IpcFence

/** Where a fence's work runs. */
export interface FenceOptions {
  /**
   * The GPU that an event or stream belongs to (default: what an External says, otherwise the manager's). Where the
   * manager's device memory lies on several GPUs a stream must name it, but for the default stream, which means each GPU's.
   */
  readonly ordinal?: number
}

/** Makers of fences. Events and streams are for device memory of kind `cuda`. */
export const fence: {
  /** The caller's word that nothing still touches the memory. */
  readonly quiet: () => Fence
  /** The transfer starts when `promise` has resolved. */
  readonly promise: (promise: Promise<unknown>) => Fence
  /** What is recorded in an event by the time of the call that the fence is given to. */
  readonly event: (event: bigint | object, options?: FenceOptions) => Fence
  /** What is queued in a stream by the time of the call that the fence is given to. */
  readonly stream: (stream: bigint | object, options?: FenceOptions) => Fence
  /** What is recorded in another process's event by the time of the call that the fence is given to. */
  readonly ipc: (handle: Uint8Array, options?: FenceOptions) => Fence
} = {
  quiet: () => ({ kind: 'quiet' }),
  promise: (promise) => ({ kind: 'promise', promise }),
  event: (event, options) => ({ kind: 'event', event, ...options }),
  stream: (stream, options) => ({ kind: 'stream', stream, ...options }),
  ipc: (handle, options) => ({ kind: 'ipc', handle, ...options }),
}

/** The fences of one call, captured: what has to resolve, and what the GPU waits for. */
export interface CapturedFence {
  readonly promises: readonly Promise<unknown>[]
  readonly handles: readonly FenceHandle[]
  /** Why a point could not be captured, which makes every block a miss; null when all were. */
  readonly failure: FenceFailure | null
}

/** Why a transfer cannot begin. */
export interface FenceFailure {
  readonly code: ErrorCode
  readonly message: string
}

/** Nothing is waited for. */
export const NOTHING: CapturedFence = { promises: [], handles: [], failure: null }

type DeviceFence = EventFence | StreamFence | IpcFence

const IPC_HANDLE_BYTES = 64
/** The streams that every GPU has: the default one, by its names in CUDA. */
const DEFAULT_STREAMS: readonly unknown[] = [0n, 1n, 2n]
/** Failures of a GPU or its driver: no mistakes of the caller. */
const FAILURES: readonly ErrorCode[] = ['ERR_KV_DEVICE_LOST', 'ERR_KV_IO', 'ERR_KV_OUT_OF_MEMORY']

/** Throws ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE unless `value` is a fence. */
export function checkFence(name: string, value: unknown): Fence {
  const kind = value !== null && typeof value === 'object' && 'kind' in value ? value.kind : undefined
  if (kind === 'quiet') return value as QuietFence
  if (kind === 'promise' && (value as PromiseFence).promise instanceof Promise) {
    const given = value as PromiseFence
    // A transfer that ended early waits for it no more; its rejection must not be unhandled then.
    given.promise.catch(() => undefined)
    return given
  }
  if (kind === 'event' || kind === 'stream' || kind === 'ipc') return checkDeviceFence(name, value as DeviceFence)
  return invalidType(name, 'a fence (fence.quiet() when nothing still touches the memory)', value)
}

function checkDeviceFence(name: string, given: DeviceFence): Fence {
  const { ordinal } = given
  if (ordinal !== undefined) ordinalOf(`${name}.ordinal`, ordinal)
  if (given.kind === 'ipc') {
    onlyKnown(name, given, ['kind', 'handle', 'ordinal'])
    const { handle } = given
    if (!(handle instanceof Uint8Array)) invalidType(`${name}.handle`, 'a Uint8Array', handle)
    if (handle.length !== IPC_HANDLE_BYTES) {
      invalidValue(`${name}.handle`, `the ${IPC_HANDLE_BYTES} bytes of cuIpcGetEventHandle`, `${handle.length} bytes`)
    }
    return given
  }
  onlyKnown(name, given, ['kind', given.kind, 'ordinal'])
  const source: unknown = given.kind === 'event' ? given.event : given.stream
  const what = `${name}.${given.kind}`
  if (typeof source === 'bigint') addressOf(what, source, given.kind === 'event' ? 1n : 0n)
  else if (typeof source !== 'object' || source === null) {
    invalidType(what, 'an address (a bigint) or an External', source)
  }
  return given
}

/**
 * One fence or an array of them, all of which must have passed.
 *
 * @throws KvError ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE naming the fence
 */
export function checkFences(name: string, value: unknown): readonly Fence[] {
  if (!Array.isArray(value)) return [checkFence(name, value)]
  if (value.length === 0) invalidValue(name, 'at least one fence (fence.quiet() for none)', 'an empty array')
  // Unlike `map`, this looks at what an array has left out as well.
  return Array.from(value as unknown[], (each, i) => checkFence(`${name}[${i}]`, each))
}

/**
 * Captures the points that fences name, now.
 *
 * @param name - the argument that they came from
 * @throws KvError ERR_KV_UNSUPPORTED for work of a GPU where the device memory is of kind `host`; ERR_KV_INVALID_TYPE,
 * ERR_KV_INVALID_VALUE for what is no event or stream, as far as that can be seen
 */
export function captureFences(context: MovementContext, name: string, fences: readonly Fence[]): CapturedFence {
  const promises: Promise<unknown>[] = []
  const handles: FenceHandle[] = []
  let failure: FenceFailure | null = null
  for (const each of fences) {
    if (each.kind === 'promise') promises.push(each.promise)
    else if (each.kind !== 'quiet') failure ??= captureDevice(context, name, each, handles)
  }
  return { promises, handles, failure }
}

function captureDevice(
  context: MovementContext,
  name: string,
  given: DeviceFence,
  handles: FenceHandle[],
): FenceFailure | null {
  const { binding, device } = context
  if (device.ordinals.length === 0) {
    throw new KvError(
      'ERR_KV_UNSUPPORTED',
      `${name} names work of a GPU, but the manager's device memory is of kind 'host'; use fence.promise, or fence.quiet ` +
        'when nothing still touches the memory.',
    )
  }
  const { source, ordinals } = sourceOf(context, name, given)
  for (const ordinal of ordinals) {
    try {
      handles.push(binding.makeFence(ordinal, given.kind, source))
    } catch (error) {
      if (!isKvError(error) || !FAILURES.includes(error.code)) throw error
      // The work may be that of another GPU, whose end is none of the device memory's.
      if (device.ordinals.includes(ordinal)) noteDeviceLost(context, error.code, error.message)
      return { code: error.code, message: error.message }
    }
  }
  return null
}

/** What is to be captured, and on which GPUs. */
function sourceOf(
  { binding, device }: MovementContext,
  name: string,
  given: DeviceFence,
): { source: bigint | Uint8Array; ordinals: readonly number[] } {
  // Any GPU can wait for any event: the first one's captures it for all.
  const first = device.ordinals.slice(0, 1)
  if (given.kind === 'ipc') return { source: given.handle, ordinals: ordinalsFor(given.ordinal, first) }
  const { kind } = given
  const object = kind === 'event' ? given.event : given.stream
  let source = object
  let { ordinal } = given
  if (typeof source !== 'bigint') {
    const external = binding.readExternal(object)
    if (external.kind !== kind) invalidType(`${name}.${kind}`, `an External of an ${kind}`, `one of ${external.kind}`)
    source = external.address
    if (ordinal === undefined && external.ordinal >= 0) ordinal = external.ordinal
  }
  if (kind === 'event') return { source, ordinals: ordinalsFor(ordinal, first) }
  if (ordinal === undefined && device.ordinals.length > 1 && !DEFAULT_STREAMS.includes(source)) {
    const there = device.ordinals.join(', ')
    invalidValue(`${name}.ordinal`, `the GPU of the stream, as device memory lies on several (${there})`, ordinal)
  }
  return { source, ordinals: ordinalsFor(ordinal, device.ordinals) }
}

function ordinalsFor(named: number | undefined, byDefault: readonly number[]): readonly number[] {
  return named === undefined ? byDefault : [named]
}

/** Waits for what this process must wait for; null when it has passed, else why the transfer cannot begin. */
export async function waitForFence(control: TransferControl, after: CapturedFence): Promise<FenceFailure | null> {
  if (after.failure !== null) return after.failure
  if (after.promises.length > 0) {
    const all = Promise.all(after.promises)
    // A transfer that was ended waits for it no more.
    all.catch(() => undefined)
    try {
      await control.wait(all)
    } catch {
      return { code: 'ERR_KV_ABORTED', message: '' }
    }
  }
  return control.code === null ? null : { code: control.code, message: '' }
}
