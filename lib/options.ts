/**
 * The options of `BlockManager.open`, and their validation in one voice: "option, what was asked, what is allowed".
 */
import {
  type DeviceOptions,
  type ResolvedCudaDevice,
  type ResolvedHostDevice,
  resolveDevice,
} from './device-options.js'
import { flag, integer, invalidType, invalidValue, object, optionsOf } from './errors.js'
import type { ModelIdentity } from './identity/fingerprint.js'
import type { ModelLayout } from './identity/model-layout.js'

/** One kibibyte, mebibyte and gibibyte, for capacities. */
export const KiB: number = 1024
export const MiB: number = 1024 * KiB
export const GiB: number = 1024 * MiB

/** Tenant limits in bytes; a limit that is left out is the tier's capacity. */
export interface Quota {
  readonly hostBytes?: number
  readonly diskBytes?: number
}

const GPU_DIRECT = ['measured', 'always', 'never'] as const

/** When blocks go directly from disk to a GPU. */
export type GpuDirect = (typeof GPU_DIRECT)[number]

/** What `BlockManager.open` takes. */
export interface ManagerOptions {
  /** The KV's shape, from `layoutOf` or `defineLayout`. */
  readonly layout: ModelLayout
  /**
   * What makes this model's KV different from every other's: a name, or a name with revision, rope parameters and so on.
   * Blocks stored under another identity are never found.
   */
  readonly model: string | ModelIdentity
  /** G1; leave out for engines that give no device pointers. */
  readonly device?: DeviceOptions
  /** G2. Slots are allocated and touched before `open` resolves. */
  readonly host: { readonly capacityBytes: number }
  /** G3; leave out for none. The directory is made 0700 when missing. `capacityBytes` is preallocated. */
  readonly disk?: {
    readonly directory: string
    readonly capacityBytes: number
    /** O_DIRECT where the file system allows it (default true). */
    readonly direct?: boolean
    /**
     * Whether blocks that leave no copy in host memory go directly from disk to a GPU (cuFile; needs O_DIRECT, and device
     * memory of layout `contiguous`). `measured` (default): where it works and opening measured it to be no slower than the
     * way through host memory, for loads of each kind by itself. `always`: where it works. `never`: it is not tried. See
     * `manager.stats().diskToDevice`.
     */
    readonly gpuDirect?: GpuDirect
  }
  /** Which block leaves first: a name from the eviction policy catalog (default `lru`). */
  readonly evictionPolicy?: string
  /** Byte quotas by tenant name. */
  readonly quotas?: Readonly<Record<string, Quota>>
  /** Key of the tenants' salts; default: random, kept with the disk tier. Give one to share a store between roots. */
  readonly secret?: string | Uint8Array
  /** Leave the last block of a fully held prompt to compute, so that the engine has a token to evaluate (default true). */
  readonly leaveLastBlock?: boolean
  /** Deadline of every onboard and offload that names none, in milliseconds (default 30,000; 0 = none). */
  readonly deadlineMs?: number
  /** Write host blocks that are not on disk before `close` resolves (default true). */
  readonly flushOnClose?: boolean
  /** Engine threads and limits; the defaults suit most machines. */
  readonly engine?: {
    /** 0 = between 4 and 10, by processor count; at least 3 are started. One disk keeps all but two of them busy at most. */
    readonly threads?: number
    /** Bytes that each disk reads at once, and of copies towards the GPU (default 32 MiB); a larger block runs alone. */
    readonly readBytesInFlight?: number
    /** The same for writes, and copies away from the GPU (default 32 MiB). */
    readonly writeBytesInFlight?: number
    /** Blocks in flight, beyond which a transfer is refused with ERR_KV_QUEUE_FULL (default 65,536; at most 1,048,576). */
    readonly queueBlocks?: number
  }
}

/** The options with every default filled in. */
export interface ResolvedOptions {
  readonly layout: ModelLayout
  readonly model: ModelIdentity
  readonly device: ResolvedHostDevice | ResolvedCudaDevice | null
  readonly hostBytes: number
  readonly disk: Required<NonNullable<ManagerOptions['disk']>> | null
  readonly evictionPolicy: string
  readonly quotas: Readonly<Record<string, Quota>>
  readonly secret: Uint8Array | null
  readonly leaveLastBlock: boolean
  readonly deadlineMs: number
  readonly flushOnClose: boolean
  readonly engine: {
    readonly threads: number
    readonly readBytesInFlight: number
    readonly writeBytesInFlight: number
    readonly queueBlocks: number
  }
}

const MODEL_FIELDS = [
  'name',
  'revision',
  'dtype',
  'rope',
  'tensorParallel',
  'pipelineParallel',
  'extra',
] as const satisfies (keyof ModelIdentity)[]

const ENGINE_FIELDS = [
  'threads',
  'readBytesInFlight',
  'writeBytesInFlight',
  'queueBlocks',
] as const satisfies (keyof NonNullable<ManagerOptions['engine']>)[]

function resolveDisk(value: unknown): ResolvedOptions['disk'] {
  if (value === undefined) return null
  const disk = optionsOf('disk', value, ['directory', 'capacityBytes', 'direct', 'gpuDirect'])
  if (typeof disk.directory !== 'string') invalidType('disk.directory', 'a path', disk.directory)
  if (disk.directory === '' || disk.directory.includes('\0')) {
    invalidValue('disk.directory', 'a path that is not empty and has no NUL', disk.directory)
  }
  return {
    directory: disk.directory,
    capacityBytes: integer('disk.capacityBytes', disk.capacityBytes, 1),
    direct: flag('disk.direct', disk.direct, true),
    gpuDirect: resolveGpuDirect(disk.gpuDirect),
  }
}

function resolveGpuDirect(value: unknown): GpuDirect {
  if (value === undefined) return 'measured'
  const known = GPU_DIRECT.find((name) => name === value)
  if (known === undefined) invalidValue('disk.gpuDirect', `one of ${GPU_DIRECT.join(', ')}`, value)
  return known
}

function resolveQuotas(value: unknown): Record<string, Quota> {
  if (value === undefined) return {}
  const quotas = object('quotas', value)
  const resolved: Record<string, Quota> = Object.create(null) as Record<string, Quota>
  for (const [tenant, quota] of Object.entries(quotas)) {
    const name = `quotas.${tenant}`
    const fields = optionsOf(name, quota, ['hostBytes', 'diskBytes'])
    resolved[tenant] = {
      ...(fields.hostBytes === undefined ? {} : { hostBytes: integer(`${name}.hostBytes`, fields.hostBytes, 0) }),
      ...(fields.diskBytes === undefined ? {} : { diskBytes: integer(`${name}.diskBytes`, fields.diskBytes, 0) }),
    }
  }
  return resolved
}

function resolveModel(value: unknown): ModelIdentity {
  if (typeof value === 'string') {
    if (value === '') invalidValue('model', 'a name that is not empty', value)
    return { name: value }
  }
  const model = optionsOf('model', value, MODEL_FIELDS)
  if (typeof model.name !== 'string' || model.name === '') invalidType('model.name', 'a name', model.name)
  return model as unknown as ModelIdentity
}

function resolveSecret(value: unknown): Uint8Array | null {
  if (value === undefined) return null
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value
  if (!(bytes instanceof Uint8Array)) invalidType('secret', 'a string or a Uint8Array', value)
  if (bytes.length < 16) invalidValue('secret', 'at least 16 bytes', `${bytes.length} bytes`)
  return bytes.slice()
}

const KNOWN = [
  'layout',
  'model',
  'device',
  'host',
  'disk',
  'evictionPolicy',
  'quotas',
  'secret',
  'leaveLastBlock',
  'deadlineMs',
  'flushOnClose',
  'engine',
] as const satisfies (keyof ManagerOptions)[]

/**
 * Checks what the caller gave and fills in the defaults.
 *
 * @throws KvError ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE, ERR_KV_UNSUPPORTED
 */
export function resolveOptions(options: ManagerOptions): ResolvedOptions {
  const given = optionsOf('options', options, KNOWN)
  const host = optionsOf('host', given.host, ['capacityBytes'])
  const engine = given.engine === undefined ? {} : optionsOf('engine', given.engine, ENGINE_FIELDS)
  object('layout', given.layout)
  const policy = given.evictionPolicy ?? 'lru'
  if (typeof policy !== 'string') invalidType('evictionPolicy', 'the name of a policy', policy)
  return {
    layout: options.layout,
    model: resolveModel(given.model),
    device: resolveDevice(given.device),
    hostBytes: integer('host.capacityBytes', host.capacityBytes, 1),
    disk: resolveDisk(given.disk),
    evictionPolicy: policy,
    quotas: resolveQuotas(given.quotas),
    secret: resolveSecret(given.secret),
    leaveLastBlock: flag('leaveLastBlock', given.leaveLastBlock, true),
    deadlineMs: given.deadlineMs === undefined ? 30_000 : integer('deadlineMs', given.deadlineMs, 0, 0x7fffffff),
    flushOnClose: flag('flushOnClose', given.flushOnClose, true),
    engine: {
      threads: integer('engine.threads', engine.threads ?? 0, 0, 64),
      readBytesInFlight: integer('engine.readBytesInFlight', engine.readBytesInFlight ?? 32 * MiB, 1),
      writeBytesInFlight: integer('engine.writeBytesInFlight', engine.writeBytesInFlight ?? 32 * MiB, 1),
      queueBlocks: integer('engine.queueBlocks', engine.queueBlocks ?? 65_536, 1, 1 << 20),
    },
  }
}
