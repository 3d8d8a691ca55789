/**
 * The replay that moves real bytes: every block of the trace is filled by an engine of our own, goes through the tiers of
 * a real block manager, and is compared byte by byte when it comes back.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BlockManager } from '../../block-manager.js'
import { KvError } from '../../errors.js'
import { defineLayout, groupShapeOf, type ModelLayout, slotBytesOfShape } from '../../identity/model-layout.js'
import { fence } from '../../movement/fence.js'
import { startBatch } from '../../movement/native-batch.js'
import { binding, type StorageHandle } from '../../native/binding.js'
import { completions } from '../../native/completions.js'
import { RECORD_BYTES } from '../../native/sizes.js'
import { MiB } from '../../options.js'
import { type EngineKind, type EngineMemory, openEngineMemory } from './engine-memory.js'

/** Two tokens carry a trace's block id: its low and its high word. */
const TOKENS_PER_BLOCK = 2

/** What a replay with bytes needs to know. */
export interface MovingOptions {
  readonly blockBytes: number
  readonly hostBlocks: number
  /** 0 = no disk tier. */
  readonly diskBlocks: number
  readonly policy: string
  /** Where blocks are computed (default: host). */
  readonly device?: EngineKind
  /** Longest request, in blocks. */
  readonly longestRequest: number
  /** Parent of the temporary directory (default: the system's). */
  readonly directory?: string
}

/** What it found. */
export interface MovingResult {
  readonly hits: { readonly host: number; readonly disk: number }
  readonly offloadedBytes: number
  readonly onboardedBytes: number
  readonly verifiedBlocks: number
  readonly wrongBlocks: number
  /** Blocks whose transfer failed; each one was a miss. */
  readonly failedBlocks: number
}

/** The engine as the manager opens it by default: the memory that is lent must be open before. */
const ENGINE = { threads: 0, readBytesInFlight: 32 * MiB, writeBytesInFlight: 32 * MiB, queueBlocks: 65_536 }

async function closeStorage(storage: StorageHandle): Promise<void> {
  await completions().call<undefined>((ticket) => binding.startClose(ticket, storage))
}

/** A layout whose block takes exactly `bytes`. */
export function layoutOfBytes(bytes: number): ModelLayout {
  const layers = bytes % 16 === 0 ? 4 : 1
  if (bytes < 4 || bytes % (TOKENS_PER_BLOCK * 2 * layers) !== 0) {
    throw new KvError('ERR_KV_USAGE', `--bytes must be a multiple of 4 and at least 4, but is ${bytes}.`)
  }
  return defineLayout({
    tokensPerBlock: TOKENS_PER_BLOCK,
    dtype: 'replay',
    groups: [{ name: 'full', kind: 'full', layers, bytesPerToken: bytes / (TOKENS_PER_BLOCK * 2 * layers) }],
  })
}

/** Serves the requests of a trace one after the other. */
export class MovingReplay {
  readonly #manager: BlockManager
  readonly #directory: string | null
  readonly #engine: StorageHandle
  readonly #slots: Uint32Array
  #hits = { host: 0, disk: 0 }
  #verified = 0
  #wrong = 0
  #failed = 0

  private constructor(manager: BlockManager, directory: string | null, engine: StorageHandle, slots: number) {
    this.#manager = manager
    this.#directory = directory
    this.#engine = engine
    this.#slots = Uint32Array.from({ length: slots }, (_, slot) => slot)
  }

  /**
   * Opens a manager whose tiers hold as many blocks as asked for, in a temporary directory of its own.
   *
   * @throws KvError as BlockManager.open
   */
  static async open(options: MovingOptions): Promise<MovingReplay> {
    const layout = layoutOfBytes(options.blockBytes)
    const [group] = layout.groups
    if (group === undefined) throw new KvError('ERR_KV_INTERNAL', 'The replay layout has no group.')
    const shape = groupShapeOf(group, TOKENS_PER_BLOCK)
    const stride = slotBytesOfShape(shape)
    const slots = Math.max(1, options.longestRequest)
    const directory =
      options.diskBlocks > 0 ? await mkdtemp(join(options.directory ?? tmpdir(), 'kvtier-replay-')) : null
    let memory: EngineMemory | null = null
    try {
      completions()
      binding.openEngine(ENGINE)
      memory = await openEngineMemory(options.device ?? 'host', group.name, shape, slots)
      const manager = await BlockManager.open({
        layout,
        model: 'kvtier-replay',
        device: memory.device,
        host: { capacityBytes: options.hostBlocks * stride },
        ...(directory === null
          ? {}
          : { disk: { directory, capacityBytes: options.diskBlocks * (stride + RECORD_BYTES) } }),
        evictionPolicy: options.policy,
        leaveLastBlock: false,
        flushOnClose: false,
        deadlineMs: 0,
      })
      return new MovingReplay(manager, directory, memory.storage, slots)
    } catch (error) {
      if (memory !== null) await closeStorage(memory.storage).catch(() => undefined)
      if (directory !== null) await rm(directory, { recursive: true, force: true })
      throw error
    }
  }

  /**
   * One request: onboards the held prefix, checks every byte, fills and offloads the rest.
   *
   * @param ids - block ids in prompt order
   * @returns blocks of the prefix that were held
   */
  async serve(ids: ArrayLike<number>): Promise<number> {
    const tokens = new Uint32Array(ids.length * TOKENS_PER_BLOCK)
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] ?? 0
      tokens[i * 2] = id >>> 0
      tokens[i * 2 + 1] = Math.floor(id / 2 ** 32)
    }
    const sequence = this.#manager.sequence(tokens, { tenant: 'replay' })
    await sequence.prepare()
    const count = Math.min(sequence.blockCount, this.#slots.length)
    const load = sequence.onboard({ into: this.#slots.subarray(0, count), after: fence.quiet() })
    const loaded = await load.done
    await load.settled
    const held = loaded.tokens / TOKENS_PER_BLOCK
    for (let i = 0; i < held; i++) this.#hits[loaded.tier(i) === 'host' ? 'host' : 'disk']++
    this.#failed += loaded.blockCount - loaded.arrived
    await this.#check(held, sequence.hashes.bytes)
    if (held < count) {
      await this.#fill(held, count, sequence.hashes.bytes)
      const store = sequence.offload({
        from: this.#slots.subarray(held, count),
        firstBlock: held,
        after: fence.quiet(),
      })
      const stored = await store.done
      await store.settled
      this.#failed += stored.blockCount - stored.arrived
    }
    return held
  }

  async #check(count: number, hashes: Uint8Array): Promise<void> {
    if (count === 0) return
    const batch = startBatch(completions(), count, (ticket) =>
      binding.startCheckPattern(ticket, this.#engine, this.#slots.slice(0, count), hashes.slice(0, count * 32)),
    )
    for (const code of (await batch.done).codes) {
      if (code === 0) this.#verified++
      else this.#wrong++
    }
    await batch.settled
  }

  async #fill(first: number, end: number, hashes: Uint8Array): Promise<void> {
    const batch = startBatch(completions(), end - first, (ticket) =>
      binding.startFillPattern(ticket, this.#engine, this.#slots.slice(first, end), hashes.slice(first * 32, end * 32)),
    )
    await batch.done
    await batch.settled
  }

  /** What happened so far. */
  result(): MovingResult {
    const { counters } = this.#manager.stats()
    return {
      hits: { ...this.#hits },
      offloadedBytes: counters.offloadedBytes + counters.diskWriteBytes,
      onboardedBytes: counters.onboardedBytes,
      verifiedBlocks: this.#verified,
      wrongBlocks: this.#wrong,
      failedBlocks: this.#failed,
    }
  }

  /** Closes the manager, and the memory that was lent to it, and removes the temporary directory. */
  async close(): Promise<void> {
    await this.#manager.close()
    await closeStorage(this.#engine)
    if (this.#directory !== null) await rm(this.#directory, { recursive: true, force: true })
  }
}
