/** A GPU as the benchmarks use it through the seam: what there is, its storages, and which strategy its copies take. */
import type { CopyStrategyName } from '../../lib/device-options.js'
import { startBatch } from '../../lib/movement/native-batch.js'
import {
  binding,
  type CopyFigures,
  type GroupShape,
  NO_SLOT,
  type ProbeResult,
  type StorageHandle,
  type TransferPath,
  type TransferRequest,
} from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { COPY_STRATEGIES } from '../../lib/native/generated.js'
import { isSimulated } from '../../lib/tiers/cuda.js'
import { closeStorage, openBinding, openMemory } from './native.js'
import { evenWords } from './words.js'

/** The GPU that is measured, of those that the driver shows. */
export const GPU = 0

/** What is measured on. */
export interface Gpu {
  readonly name: string
  readonly driver: string
  /** The driver's file, '' for the system's. */
  readonly library: string
  /** Whether it is the simulated driver, whose times say nothing about a GPU. */
  readonly simulated: boolean
}

let found: Promise<Gpu | string> | null = null

/** The GPU, or in one line why there is none. Asked once. */
export function findGpu(): Promise<Gpu | string> {
  found ??= probeGpu()
  return found
}

async function probeGpu(): Promise<Gpu | string> {
  const native = openBinding()
  const { cuda } = await completions().call<ProbeResult>((ticket) => native.startProbe(ticket, ''))
  const name = cuda.devices[GPU]
  if (!cuda.available || name === undefined) return `no GPU to measure: ${cuda.reason}`
  return {
    name,
    driver: cuda.driverVersion,
    library: process.env.KVTIER_CUDA_LIBRARY ?? '',
    simulated: isSimulated(name),
  }
}

let figures: Promise<CopyFigures> | null = null

/** What kvtier's calibration of the GPU found; measured once. */
export function calibration(): Promise<CopyFigures> {
  const native = openBinding()
  figures ??= completions().call<CopyFigures>((ticket) => native.startMeasureDevice(ticket, GPU))
  return figures
}

/** Makes the engine's copies take the strategies that were calibrated, or one and no other but single copies. */
export function setChoices(calibrated: CopyFigures, strategy: CopyStrategyName | null): void {
  if (strategy === null) {
    binding.setDeviceChoices(GPU, calibrated.choices, 0)
    return
  }
  const number = COPY_STRATEGIES.indexOf(strategy)
  const all = (1 << COPY_STRATEGIES.length) - 1
  // Bit 0 is that of single copies, which cannot be forbidden: they copy what nothing else can.
  binding.setDeviceChoices(GPU, new Uint8Array(calibrated.choices.length).fill(number), all & ~(1 << number) & ~1)
}

/** Numbers below `count` in a drawn order that is the same in every run. */
export function drawnOrder(count: number): Uint32Array {
  const keys = evenWords(count, 7)
  return Uint32Array.from(keys.keys()).sort((a, b) => (keys[a] ?? 0) - (keys[b] ?? 0))
}

/** Hashes of so many blocks; another seed gives others. */
export function hashesOf(count: number, seed: number): Uint8Array {
  return new Uint8Array(evenWords(count * 8, seed).buffer)
}

/** Blocks on the GPU, each run of a block in a region of its own and slots in a drawn order, and as many in pinned memory. */
export class GpuBlocks {
  readonly #count: number
  readonly #device: StorageHandle
  readonly #host: StorageHandle
  readonly #deviceSlots: Uint32Array
  readonly #hostSlots: Uint32Array
  /** Of the bytes that are there now. */
  readonly #requests = new Map<string, TransferRequest>()
  #seed = 0

  private constructor(count: number, device: StorageHandle, host: StorageHandle) {
    this.#count = count
    this.#device = device
    this.#host = host
    this.#deviceSlots = drawnOrder(count)
    this.#hostSlots = Uint32Array.from({ length: count }, (_, i) => i)
  }

  /** Allocates both. The host's part beyond 64 MiB is registered in the background, while bytes are checked. */
  static async open(fragmentBytes: number, runs: number, count: number): Promise<GpuBlocks> {
    const native = openBinding()
    const shape: GroupShape = { parts: 1, layers: runs, outer: 1, tokensPerBlock: 1, bytesPerToken: fragmentBytes }
    const device = await completions().call<StorageHandle>((ticket) =>
      native.startOpenDevice(ticket, Uint32Array.of(GPU), 'layersKvInner', shape, count),
    )
    try {
      return new GpuBlocks(count, device, await openMemory('contiguous', shape, count, GPU))
    } catch (error) {
      await closeStorage(device)
      throw error
    }
  }

  /** Moves every block once, and checks that every block arrived. What is the same again is not made again. */
  async move(toDevice: boolean, path: TransferPath): Promise<void> {
    const key = `${path} ${toDevice}`
    const request = this.#requests.get(key) ?? this.#requestFor(toDevice, path)
    this.#requests.set(key, request)
    await this.#run((ticket) => binding.startTransfer(ticket, request))
  }

  /** Fills the side that {@link move} reads with a pattern that was never there, and the other one with another. */
  async fill(toDevice: boolean): Promise<void> {
    this.#requests.clear()
    const [from, to] = this.#ends(toDevice)
    const other = hashesOf(this.#count, ++this.#seed)
    await this.#run((ticket) => binding.startFillPattern(ticket, to.storage, to.slots, other))
    const hashes = hashesOf(this.#count, ++this.#seed)
    await this.#run((ticket) => binding.startFillPattern(ticket, from.storage, from.slots, hashes))
  }

  /** Checks every byte of the side that {@link move} writes against what {@link fill} gave the other one. */
  async check(toDevice: boolean): Promise<void> {
    const { storage, slots } = this.#ends(toDevice)[1]
    const hashes = hashesOf(this.#count, this.#seed)
    await this.#run((ticket) => binding.startCheckPattern(ticket, storage, slots, hashes))
  }

  async close(): Promise<void> {
    await closeStorage(this.#device)
    await closeStorage(this.#host)
  }

  #ends(toDevice: boolean): [from: Side, to: Side] {
    const device = { storage: this.#device, slots: this.#deviceSlots }
    const host = { storage: this.#host, slots: this.#hostSlots }
    return toDevice ? [host, device] : [device, host]
  }

  #requestFor(toDevice: boolean, path: TransferPath): TransferRequest {
    const [from, to] = this.#ends(toDevice)
    const moves = new Uint32Array(this.#count * 3)
    for (let i = 0; i < this.#count; i++) moves.set([from.slots[i] ?? 0, NO_SLOT, to.slots[i] ?? 0], i * 3)
    const hashes = hashesOf(this.#count, this.#seed)
    const ends = { source: from.storage, via: null, target: to.storage }
    return { path, onboard: toDevice, ...ends, moves, hashes, parents: null, records: null }
  }

  async #run(start: (ticket: number) => void): Promise<void> {
    const batch = startBatch(completions(), this.#count, start)
    const { codes, message } = await batch.done
    await batch.settled
    if (codes.some((code) => code !== 0)) throw new Error(`A block of a benchmark's batch failed: ${message}`)
  }
}

interface Side {
  readonly storage: StorageHandle
  readonly slots: Uint32Array
}
