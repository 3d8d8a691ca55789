/** A context with a cache behind it: a prompt's state in host memory and on disk, and what the benchmarks do with it. */
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { BlockManager } from '../../lib/block-manager.js'
import { DEFAULT_TOKENS_PER_BLOCK } from '../../lib/connectors/node-llama-cpp/describe.js'
import {
  bindNodeLlamaCpp,
  describeNodeLlamaCpp,
  type NodeLlamaCppCache,
} from '../../lib/connectors/node-llama-cpp/index.js'
import { blockBytesOf } from '../../lib/identity/model-layout.js'
import { MiB } from '../../lib/options.js'
import { evenWords } from '../harness/words.js'
import type { LlamaContext, LlamaModel, LlamaSequence } from './engine.js'
import type { Logits } from './prompts.js'

/** Tokens of a block: the connector's default. */
export const TOKENS_PER_BLOCK = DEFAULT_TOKENS_PER_BLOCK
/** Tokens that the engine evaluates at once. */
export const BATCH_TOKENS = 512
/** Room behind a prompt. */
const ROOM_TOKENS = 128

/** What an {@link EngineCache} has room for. */
export interface CacheSize {
  /** Tokens of the longest prompt. */
  readonly tokens: number
  /** Prompts of that length that have room in host memory (default 1); twice as many on disk. */
  readonly states?: number
  /** Where the disk tier is made. */
  readonly directory: string
  /** Default: as the engine sees fit. */
  readonly flashAttention?: boolean
}

/** A context with one sequence, and a cache for its prompts. */
export class EngineCache {
  readonly cache: NodeLlamaCppCache
  readonly manager: BlockManager
  readonly context: LlamaContext
  readonly sequence: LlamaSequence
  readonly bytesPerToken: number
  readonly #hostBlocks: number
  /** What the cache told of its failures. */
  readonly #failures: string[] = []
  #seed = 0

  private constructor(
    manager: BlockManager,
    cache: NodeLlamaCppCache,
    context: LlamaContext,
    sequence: LlamaSequence,
    hostBlocks: number,
  ) {
    this.manager = manager
    this.cache = cache
    this.context = context
    this.sequence = sequence
    this.bytesPerToken = blockBytesOf(manager.layout) / TOKENS_PER_BLOCK
    this.#hostBlocks = hostBlocks
    cache.on('failed', ({ what, code, message }) => this.#failures.push(`${what}: ${code}: ${message}`))
  }

  /** Opens both: one thread, batches of 512, KV of f16. */
  static async open(model: LlamaModel, size: CacheSize): Promise<EngineCache> {
    const { tokens, states = 1, flashAttention } = size
    const context = await model.createContext({
      contextSize: tokens + ROOM_TOKENS,
      sequences: 1,
      batchSize: BATCH_TOKENS,
      threads: 1,
      ...(flashAttention === undefined ? {} : { flashAttention }),
    })
    const directory = mkdtempSync(join(size.directory, 'engine-'))
    const target = { model, context }
    const described = await describeNodeLlamaCpp({ ...target, tokensPerBlock: TOKENS_PER_BLOCK })
    const blockBytes = Math.ceil(blockBytesOf(described.layout) / 4096) * 4096
    const hostBlocks = states * EngineCache.blocksOf(tokens) + 2
    const manager = await BlockManager.open({
      ...described,
      host: { capacityBytes: hostBlocks * blockBytes },
      disk: { directory, capacityBytes: 2 * hostBlocks * blockBytes + MiB },
      flushOnClose: false,
    })
    const cache = await bindNodeLlamaCpp(manager, target)
    const { enabled, reason } = cache.stats()
    if (!enabled) throw new Error(`The cache is off: ${reason}`)
    return new EngineCache(manager, cache, context, context.getSequence(), hostBlocks)
  }

  /** Whole blocks of so many tokens. */
  static blocksOf(tokens: number): number {
    return Math.floor(tokens / TOKENS_PER_BLOCK)
  }

  /** Tokens of a prompt that come back: whole blocks, without its last token. */
  static restorable(promptTokens: number): number {
    return EngineCache.blocksOf(promptTokens - 1) * TOKENS_PER_BLOCK
  }

  /** Stores what is in the sequence, host memory and disk. */
  async store(): Promise<number> {
    const { blocks } = await this.cache.offload(this.sequence, { until: 'disk' })
    this.#checkFailures()
    return blocks
  }

  /** Makes the sequence have as much of a prompt as can be brought back, and checks that all of it came from the tier. */
  async restore(prompt: readonly number[], from: 'host' | 'disk'): Promise<void> {
    const { outcome, tokens, byTier } = await this.cache.onboard(this.sequence, prompt)
    this.#checkFailures()
    const expected = EngineCache.restorable(prompt.length)
    if (tokens === expected && byTier[from] === expected) return
    throw new Error(
      `Of ${prompt.length} tokens ${expected} were to come from ${from}: ${outcome}, ` +
        `${byTier.host} came from host memory and ${byTier.disk} from disk.`,
    )
  }

  /** Evaluates the rest of a prompt, to the logits behind its last token; of these the likeliest token is taken. */
  async evaluateRest(prompt: readonly number[]): Promise<void> {
    await this.#evaluateRest(prompt, { token: true })
  }

  /** The same, with all logits. */
  async logitsAfter(prompt: readonly number[]): Promise<Logits> {
    const output = await this.#evaluateRest(prompt, { logits: true })
    const logits = output?.next.logits
    if (logits === undefined) throw new Error('The engine gave no logits.')
    return logits
  }

  /** Makes the sequence have only the first `tokens` tokens. */
  async goBackTo(tokens: number): Promise<void> {
    await this.sequence.eraseContextTokenRanges([{ start: tokens, end: this.sequence.nextTokenIndex }])
  }

  /** Empties the sequence. */
  async clear(): Promise<void> {
    await this.sequence.clearHistory()
  }

  /** Makes a prompt's blocks be in host memory, or on disk only. */
  async place(prompt: readonly number[], tier: 'host' | 'disk'): Promise<void> {
    if (tier === 'disk') await this.#emptyHost()
    else await this.cache.prefetch(prompt)
  }

  /** Gives up every block of a prompt, in every tier. */
  async forget(prompt: readonly number[]): Promise<void> {
    const sequence = this.manager.sequence(Uint32Array.from(prompt), { tenant: 'default' })
    await sequence.prepare()
    this.manager.host.forget(sequence)
  }

  /** Closes everything but the model. */
  async close(): Promise<void> {
    await this.cache.close()
    await this.manager.close()
    await this.context.dispose()
  }

  /** Evicts every host copy; all of them are on disk. */
  async #emptyHost(): Promise<void> {
    const tokens = evenWords(this.#hostBlocks * TOKENS_PER_BLOCK, ++this.#seed)
    const others = this.manager.sequence(tokens, { tenant: 'others' })
    const reservation = await this.manager.host.reserve(others)
    reservation.release()
  }

  #checkFailures(): void {
    const [first] = this.#failures
    if (first !== undefined) throw new Error(`What must not fail here did: ${first}`)
  }

  async #evaluateRest(prompt: readonly number[], next: object): Promise<{ next: { logits?: Logits } } | undefined> {
    const rest: unknown[] = prompt.slice(this.sequence.nextTokenIndex)
    const last = rest.length - 1
    rest[last] = [rest[last], { generateNext: next }]
    const outputs = (await this.sequence.controlledEvaluate(rest)) as ({ next: { logits?: Logits } } | undefined)[]
    return outputs[last]
  }
}
