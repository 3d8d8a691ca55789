/**
 * A small inference engine of our own, which decodes with attention over paged keys and values on a GPU: the addon
 * `kvtier_gpu_engine.node`. Its memory and stream reach kvtier through native/include/kvtier.h, as another engine's would.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BorrowedCudaDevice, CopyStrategies } from '../../../lib/device-options.ts'
import { defineLayout, type ModelLayout } from '../../../lib/identity/model-layout.ts'
import type { LayoutKindName } from '../../../lib/native/binding.ts'

/** Sizes of an engine. */
export interface EngineOptions {
  readonly layers: number
  /** 4-byte words of a key or a value (default 32). */
  readonly width?: number
  /** Default 4. */
  readonly tokensPerBlock?: number
  /** Blocks that its memory has room for. */
  readonly slots: number
  /** How they lie (default `layersKvInner`). */
  readonly layout?: LayoutKindName
  /** Tokens of one decode (default 64). */
  readonly maxTokens?: number
  /** Positions of a sequence (default 512). */
  readonly maxPositions?: number
  /** The GPU (default 0). */
  readonly ordinal?: number
}

interface NativeEngine {
  regions(): object[]
  stream(): object
  streamAddress(): bigint
  decode(tokens: Uint32Array, start: number, slots: Uint32Array, waits: readonly (readonly bigint[])[]): number
  isDone(place: number): boolean
  take(place: number): BigUint64Array
  close(): void
}

interface Addon {
  readonly Engine: new (options: Required<Omit<EngineOptions, 'layout'>> & { layout: number }) => NativeEngine
}

/** In the order of KvLayout in decode_engine.h. */
const LAYOUTS: readonly LayoutKindName[] = ['contiguous', 'layersKvOuter', 'layersKvInner']

const WORD_BYTES = 4

/** The folder of what only tests load: the one of the addon that is tested. */
const built = process.env.KVTIER_ADDON
  ? dirname(process.env.KVTIER_ADDON)
  : fileURLToPath(new URL('../../../build/testing', import.meta.url))

const { Engine: Native } = createRequire(import.meta.url)(join(built, 'kvtier_gpu_engine.node')) as Addon

/** See the file's first lines. */
export class Engine {
  /** What its memory holds, as kvtier describes a model. */
  readonly model: ModelLayout
  readonly #options: Required<EngineOptions>
  readonly #native: NativeEngine

  constructor(options: EngineOptions) {
    this.#options = {
      width: 32,
      tokensPerBlock: 4,
      layout: 'layersKvInner',
      maxTokens: 64,
      maxPositions: 512,
      ordinal: 0,
      ...options,
    }
    const { layers, width, tokensPerBlock, layout } = this.#options
    const group = { name: 'full', kind: 'full', layers, bytesPerToken: width * WORD_BYTES } as const
    this.model = defineLayout({ tokensPerBlock, dtype: 'u32', groups: [group] })
    this.#native = new Native({ ...this.#options, layout: LAYOUTS.indexOf(layout) })
  }

  /** Its memory as kvtier borrows it. */
  device(strategies: CopyStrategies): BorrowedCudaDevice {
    const { slots, layout } = this.#options
    const regions = { full: this.#native.regions().map((pointer) => ({ pointer })) }
    return { kind: 'cuda', slots, layout, regions, strategies }
  }

  /** An External of the stream in which everything runs. */
  stream(): object {
    return this.#native.stream()
  }

  /** Its CUstream. */
  streamAddress(): bigint {
    return this.#native.streamAddress()
  }

  /**
   * Queues the decoding of a sequence's next tokens.
   *
   * @param start - position of the first one; keys and values of those before it are in their slots by then
   * @param blockTable - the slot of every block of the sequence up to the last token
   * @param waits - events that each layer waits for first
   * @returns an output a token, once the GPU is done; what this function throws, nothing was queued for
   */
  decode(
    tokens: readonly number[],
    start: number,
    blockTable: readonly number[],
    waits: readonly (readonly bigint[])[] = [],
  ): Promise<bigint[]> {
    const place = this.#native.decode(Uint32Array.from(tokens), start, Uint32Array.from(blockTable), waits)
    return this.#taken(place)
  }

  async #taken(place: number): Promise<bigint[]> {
    while (!this.#native.isDone(place)) await new Promise((resolve) => setImmediate(resolve))
    return [...this.#native.take(place)]
  }

  /** Waits for what is queued, blocking the thread, and frees the memory. */
  close(): void {
    this.#native.close()
  }
}

/** An engine with memory and a stream of its own. */
export function createEngine(options: EngineOptions): Engine {
  return new Engine(options)
}
