/** A block manager for benchmarks of moving bytes, and the few things that they do with it. */
import { BlockManager } from '../../lib/block-manager.js'
import { defineLayout, type ModelLayout } from '../../lib/identity/model-layout.js'
import { fence } from '../../lib/movement/fence.js'
import type { Sequence } from '../../lib/movement/sequence.js'
import { RECORD_BYTES } from '../../lib/native/sizes.js'
import { KiB, MiB } from '../../lib/options.js'
import { evenWords } from './words.js'

/** Tokens of a block everywhere in the benchmarks. */
export const TOKENS_PER_BLOCK = 16

/** How a block of one size is made up: bytes of a K or V a token, and layers. */
export interface BlockShape {
  readonly blockBytes: number
  readonly layers: number
  readonly bytesPerToken: number
}

/** 64 KiB, 1 MiB and 4 MiB. The larger ones have 8 KV heads of 128 values of 2 bytes, as models of 8 to 70 billion parameters. */
export const BLOCK_SHAPES: readonly BlockShape[] = [
  { blockBytes: 64 * KiB, layers: 4, bytesPerToken: 512 },
  { blockBytes: MiB, layers: 16, bytesPerToken: 2_048 },
  { blockBytes: 4 * MiB, layers: 64, bytesPerToken: 2_048 },
]

/** `64 KiB` or `4 MiB`. */
export function sizeName(bytes: number): string {
  return bytes < MiB ? `${bytes / KiB} KiB` : `${bytes / MiB} MiB`
}

/** Bytes that lie together in device memory: K and V of a layer. */
export function fragmentBytes(shape: BlockShape): number {
  return 2 * TOKENS_PER_BLOCK * shape.bytesPerToken
}

/** The model layout of a block shape. */
export function layoutFor(shape: BlockShape): ModelLayout {
  const { layers, bytesPerToken } = shape
  return defineLayout({
    tokensPerBlock: TOKENS_PER_BLOCK,
    dtype: 'bf16',
    groups: [{ name: 'full', kind: 'full', layers, bytesPerToken }],
  })
}

/** Where the blocks of a {@link BlockStore} may be. */
export interface StoreOptions {
  /** Device slots, and the blocks of one run. */
  readonly blocks: number
  readonly hostBlocks: number
  /** 0 = no disk tier. */
  readonly diskBlocks: number
  readonly directory: string
}

/** Prompts of a run. */
export class Prompts {
  readonly sequences: readonly Sequence[]
  readonly blocksEach: number

  private constructor(sequences: readonly Sequence[], blocksEach: number) {
    this.sequences = sequences
    this.blocksEach = blocksEach
  }

  /** Prompts that were never seen before, hashed already. */
  static async make(manager: BlockManager, blocks: number, count: number, seed: number): Promise<Prompts> {
    const blocksEach = blocks / count
    const sequences: Sequence[] = []
    for (let i = 0; i < count; i++) {
      const tokens = evenWords(blocksEach * TOKENS_PER_BLOCK, seed * 1_000 + i)
      const sequence = manager.sequence(tokens, { tenant: 'bench' })
      await sequence.prepare()
      sequences.push(sequence)
    }
    return new Prompts(sequences, blocksEach)
  }
}

/** A manager with owned device memory of kind `host`, laid out as a GPU's. */
export class BlockStore {
  readonly manager: BlockManager
  readonly #options: StoreOptions
  #seed = 0

  private constructor(manager: BlockManager, options: StoreOptions) {
    this.manager = manager
    this.#options = options
  }

  /** Opens it. */
  static async open(shape: BlockShape, options: StoreOptions): Promise<BlockStore> {
    const { blockBytes } = shape
    const disk = { directory: options.directory, capacityBytes: options.diskBlocks * (blockBytes + RECORD_BYTES) }
    const manager = await BlockManager.open({
      layout: layoutFor(shape),
      model: 'bench',
      device: { kind: 'host', slots: options.blocks, layout: 'layersKvInner' },
      host: { capacityBytes: options.hostBlocks * blockBytes },
      ...(options.diskBlocks === 0 ? {} : { disk }),
      leaveLastBlock: false,
      flushOnClose: false,
      deadlineMs: 0,
    })
    return new BlockStore(manager, options)
  }

  /** New prompts that have all device slots' number of blocks together, or as many as asked for. */
  async prompts(count: number, blocks: number = this.#options.blocks): Promise<Prompts> {
    return await Prompts.make(this.manager, blocks, count, ++this.#seed)
  }

  /** Offloads all of them at once; resolves when every block is in the tier. Nothing but the offload is in the time. */
  async offload(prompts: Prompts, until: 'host' | 'disk'): Promise<number> {
    const slots = prompts.sequences.map(() => this.manager.device.reserve(prompts.blocksEach))
    const started = performance.now()
    const transfers = prompts.sequences.map((sequence, i) => {
      const from = slots[i]
      if (from === undefined) throw new Error('A prompt has no device slots.')
      return sequence.offload({ from, after: fence.quiet(), until })
    })
    const results = await Promise.all(transfers.map((transfer) => transfer.done))
    const seconds = (performance.now() - started) / 1000
    await Promise.all(transfers.map((transfer) => transfer.settled))
    for (const each of slots) each.release()
    for (const result of results) {
      const last = result.tier(prompts.blocksEach - 1)
      if (result.arrived !== prompts.blocksEach || last !== until) {
        throw new Error(
          `${result.arrived} of ${prompts.blocksEach} blocks were offloaded, the last to ${last}: ${result.message}`,
        )
      }
    }
    return seconds
  }

  /** Onboards all of them at once. */
  async onboard(prompts: Prompts, from: 'host' | 'disk'): Promise<number> {
    const started = performance.now()
    const transfers = prompts.sequences.map((sequence) => sequence.onboard({ after: fence.quiet() }))
    const results = await Promise.all(transfers.map((transfer) => transfer.done))
    const seconds = (performance.now() - started) / 1000
    await Promise.all(transfers.map((transfer) => transfer.settled))
    for (const result of results) {
      result.pin?.release()
      const last = result.arrived === prompts.blocksEach ? result.tier(prompts.blocksEach - 1) : 'none'
      if (last !== from) {
        throw new Error(
          `${result.arrived} of ${prompts.blocksEach} blocks came, the last from ${last}: ${result.message}`,
        )
      }
    }
    return seconds
  }

  /** Evicts every device copy; what they held is in a tier below. */
  emptyDevice(): void {
    this.manager.device.reserve(this.#options.blocks).release()
  }

  /** Evicts every host copy; what they held must be on disk. */
  async emptyHost(): Promise<void> {
    const count = this.#options.hostBlocks
    const tokens = evenWords(count * TOKENS_PER_BLOCK, ++this.#seed * 1_000 + 999)
    const reservation = await this.manager.host.reserve(this.manager.sequence(tokens, { tenant: 'bench' }))
    reservation.release()
  }

  async close(): Promise<void> {
    await this.manager.close()
  }
}
