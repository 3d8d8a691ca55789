/**
 * The public object: sequences of one node-llama-cpp context, with a block manager behind them.
 */
import type { BlockManager } from '../../block-manager.js'
import { integer, invalidType, invalidValue, isKvError, KvError, optionsOf } from '../../errors.js'
import { Emitter } from '../../events.js'
import { checkLimits, LIMIT_OPTIONS } from '../../movement/sequence.js'
import type { TransferLimits } from '../../movement/transfer.js'
import { DISK } from '../../tiers/types.js'
import type {
  Attachment,
  AttachOptions,
  CacheDefaults,
  NodeLlamaCppEvents,
  NodeLlamaCppOffloadOptions,
  NodeLlamaCppOnboardOptions,
  PromptReport,
} from './cache-options.js'
import { type NodeLlamaCppStats, type SkipReason, zeroCacheCounters } from './cache-stats.js'
import { type BlockMeta, type CacheContext, sequenceOf } from './context.js'
import { checkEngineSequence, type EngineContext, type EngineSequence } from './engine.js'
import { type OffloadOutcome, storeState } from './offload.js'
import { type NodeLlamaCppOnboard, restoreState } from './onboard.js'
import type { StateImages } from './state-images.js'
import { TrackedSequence } from './tracked-sequence.js'

const ATTACH_FIELDS = ['tenant', 'priority', 'ttlMs']
const EVENTS = { disabled: true, failed: true } as const
/** Loads that fail one after the other before the cache is off. */
const MOST_FAILED_LOADS = 3
/** One sequence of the engine that the cache knows. */
interface Entry {
  readonly tracked: TrackedSequence
  readonly meta: BlockMeta
  readonly attached: boolean
  last: PromptReport | null
  /** A save is due as soon as nothing evaluates. */
  saveDue: boolean
  readonly forget: () => void
}

/** Keeps the KV of one node-llama-cpp context in a block manager's tiers. Made by `bindNodeLlamaCpp`. */
export class NodeLlamaCppCache {
  readonly #manager: BlockManager | null
  readonly #ownsManager: boolean
  readonly #engine: EngineContext
  readonly #images: StateImages | null
  readonly #context: CacheContext | null
  readonly #options: CacheDefaults
  readonly #entries = new Map<EngineSequence, Entry>()
  readonly #background = new Set<Promise<unknown>>()
  readonly #events = new Emitter<NodeLlamaCppEvents>(EVENTS)
  readonly #idle = zeroCacheCounters()
  #reason: string
  #failedLoads = 0
  #closed = false

  /** @internal Use `bindNodeLlamaCpp`. */
  constructor(parts: {
    readonly manager: BlockManager | null
    /** The cache closes the manager when it is closed. */
    readonly ownsManager: boolean
    readonly engine: EngineContext
    readonly images: StateImages | null
    readonly context: CacheContext | null
    readonly reason: string
    readonly options: CacheDefaults
  }) {
    this.#manager = parts.manager
    this.#ownsManager = parts.ownsManager
    this.#engine = parts.engine
    this.#images = parts.images
    this.#context = parts.context
    this.#reason = parts.reason
    this.#options = parts.options
    // When whoever made it could listen.
    if (this.#reason !== '') setImmediate(() => this.#events.emit('disabled', { reason: this.#reason }))
  }

  /** What keeps the blocks; null where this engine's state cannot be cut into blocks. */
  get manager(): BlockManager | null {
    return this.#manager
  }

  /** Whether blocks are used; `stats().reason` says why not. */
  get enabled(): boolean {
    return this.#reason === '' && !this.#closed
  }

  /**
   * Makes a sequence use the cache: LlamaChatSession, LlamaChat and LlamaCompletion need no change, for they ask the
   * sequence before every evaluation to adapt to the whole prompt, and that is where blocks come in. Its state is saved when
   * an evaluation ends. Attach a sequence before its first evaluation: what was evaluated before is not stored.
   *
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the argument, also for a sequence that
   * is attached already; ERR_KV_UNSUPPORTED for an engine without what this needs
   */
  attach(sequence: EngineSequence, options: AttachOptions = {}): Attachment {
    this.#checkOpen()
    const known = this.#find(sequence)
    if (known?.attached === true) {
      throw new KvError('ERR_KV_INVALID_VALUE', 'The sequence is attached already; detach() it first.')
    }
    const trusted = known !== undefined
    known?.forget()
    const meta = this.#metaOf(options)
    // Wrong ones are to be told here, not in the middle of a chat.
    this.#manager?.sequence([], meta)
    const entry = this.#track(sequence, meta, true)
    if (trusted && known.tracked.storable === sequence.nextTokenIndex) entry.tracked.trust()
    return {
      sequence,
      get last() {
        return entry.last
      },
      detach: () => entry.forget(),
      [Symbol.dispose]: () => entry.forget(),
    }
  }

  /**
   * Lets the engine's own methods do their work again; does nothing for a sequence that is not attached. A save that has
   * not begun is left out: `offload` before it stores what the last turn brought.
   */
  detach(sequence: EngineSequence): void {
    this.#entries.get(sequence)?.forget()
  }

  /**
   * Makes a sequence's state the longest prefix of a prompt that it has or a tier holds, and nothing else: evaluate
   * `tokens.slice(sequence.nextTokenIndex)` next. For callers that evaluate on their own; an attached sequence needs no call.
   *
   * @param tokens - the whole prompt; its last token is left to evaluate
   * @returns what came, or why nothing did; a failure is a miss
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE; what the engine throws for a sequence that was
   * disposed
   */
  async onboard(
    sequence: EngineSequence,
    tokens: readonly number[],
    options: NodeLlamaCppOnboardOptions = {},
  ): Promise<NodeLlamaCppOnboard> {
    this.#checkOpen()
    const entry = this.#find(sequence) ?? this.#track(sequence, this.#metaOf({}), false)
    const given = optionsOf('options', options, ['minGainTokens', ...LIMIT_OPTIONS])
    const limits = checkLimits(given)
    const minGainTokens = integer('minGainTokens', given.minGainTokens ?? this.#options.minGainTokens, 1)
    checkTokens(tokens)
    if (tokens.length === 0) return { tokens: 0, onboarded: 0, byTier: { host: 0, disk: 0 }, outcome: 'not-held' }
    return await this.#prepare(entry, tokens.slice(0, -1), false, minGainTokens, limits)
  }

  /**
   * Stores what is new of a sequence's state: whole blocks of tokens that no tier holds.
   *
   * @returns the tokens from the start that are held now, and how many blocks were stored
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE; ERR_KV_UNSUPPORTED for `until: 'disk'` without
   * a disk tier
   */
  async offload(
    sequence: EngineSequence,
    options: NodeLlamaCppOffloadOptions = {},
  ): Promise<{ readonly tokens: number; readonly blocks: number }> {
    this.#checkOpen()
    const entry = this.#find(sequence) ?? this.#track(sequence, this.#metaOf({}), false)
    const given = optionsOf('options', options, ['until', ...LIMIT_OPTIONS])
    const limits = checkLimits(given)
    const until = given.until ?? 'host'
    if (until !== 'host' && until !== 'disk') invalidValue('until', "'host' or 'disk'", until)
    if (until === 'disk' && !this.#hasDisk()) {
      throw new KvError('ERR_KV_UNSUPPORTED', "until: 'disk' was asked for, but the manager has no disk tier.")
    }
    const outcome = await entry.tracked.alone(() => this.#store(entry, limits, until === 'host'))
    if (until === 'disk' && outcome.stored !== null) await this.#write(outcome, limits)
    return { tokens: outcome.tokens, blocks: outcome.blocks }
  }

  /**
   * Brings what is held of a prompt into host memory, so that an onboard need not wait for the disk.
   *
   * @returns the tokens that are in host memory now
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE
   */
  async prefetch(
    tokens: readonly number[],
    options: TransferLimits & Pick<AttachOptions, 'tenant'> = {},
  ): Promise<number> {
    this.#checkOpen()
    checkTokens(tokens)
    const given = optionsOf('options', options, ['tenant', ...LIMIT_OPTIONS])
    const meta = this.#metaOf({ ...(options.tenant === undefined ? {} : { tenant: options.tenant }) })
    if (!this.enabled || this.#context === null) return 0
    const blockSequence = sequenceOf(this.#context, [...tokens, 0], meta)
    const reading = await this.#context.manager.host.load(blockSequence, checkLimits(given))
    reading.release()
    return reading.result.tokens
  }

  /** What the cache did since it was bound. */
  stats(): NodeLlamaCppStats {
    const counters = this.#counters
    return {
      ...counters,
      skipped: { ...counters.skipped },
      enabled: this.enabled,
      reason: this.#reason,
      attached: [...this.#entries.values()].filter(({ attached }) => attached).length,
      msPerToken: this.#context?.speeds.figures ?? { compute: null, host: null, disk: null },
    }
  }

  /**
   * Calls `listener` at every event of that name.
   *
   * @throws KvError ERR_KV_INVALID_VALUE for a name that no event has; ERR_KV_INVALID_TYPE
   */
  on<K extends keyof NodeLlamaCppEvents>(name: K, listener: (event: NodeLlamaCppEvents[K]) => void): this {
    this.#events.on(name, listener)
    return this
  }

  /**
   * Stops calling `listener`.
   *
   * @throws KvError as {@link on}
   */
  off<K extends keyof NodeLlamaCppEvents>(name: K, listener: (event: NodeLlamaCppEvents[K]) => void): this {
    this.#events.off(name, listener)
    return this
  }

  /** Resolves when nothing is being saved or written behind the caller's back. */
  async idle(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background)
  }

  /**
   * Detaches every sequence and ends what is under way. The context and the model stay open, and so does the manager unless
   * it was opened with the cache.
   */
  async close(): Promise<void> {
    if (this.#closed) return
    await this.idle()
    this.#closed = true
    for (const entry of [...this.#entries.values()]) entry.forget()
    await this.#images?.close()
    if (this.#ownsManager) await this.#manager?.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  get #counters(): CacheContext['counters'] {
    return this.#context?.counters ?? this.#idle
  }

  #checkOpen(): void {
    if (this.#closed) throw new KvError('ERR_KV_CLOSED', 'The cache was closed; bind a new one.')
  }

  #hasDisk(): boolean {
    if (this.#manager === null) return false
    return this.#manager.internals.context.groups.some(({ tiers }) => tiers[DISK].storage !== null)
  }

  #metaOf(options: AttachOptions): BlockMeta {
    const given = optionsOf('options', options, ATTACH_FIELDS) as AttachOptions
    return { ...given, tenant: given.tenant ?? this.#options.tenant }
  }

  #find(sequence: unknown): Entry | undefined {
    checkEngineSequence('sequence', sequence, this.#engine)
    return this.#entries.get(sequence)
  }

  #track(sequence: EngineSequence, meta: BlockMeta, attached: boolean): Entry {
    const tracked: TrackedSequence = new TrackedSequence(sequence, {
      onIdle: () => this.#saveSoon(entry),
      onPrefill: (tokens, ms) => this.#context?.speeds.computed(tokens, ms),
      adapt: attached
        ? async (tokens, allowShift) => {
            await this.#prepare(entry, tokens, allowShift, this.#options.minGainTokens, {})
          }
        : null,
    })
    const listener = sequence.onDispose.createListener(() => entry.forget())
    const entry: Entry = {
      tracked,
      meta,
      attached,
      last: null,
      saveDue: false,
      forget: () => {
        listener.dispose()
        tracked.release()
        if (this.#entries.get(sequence) === entry) this.#entries.delete(sequence)
      },
    }
    this.#entries.set(sequence, entry)
    return entry
  }

  /** Everything that comes before an evaluation of a prompt, of which `tokens` are all but the last token. */
  async #prepare(
    entry: Entry,
    tokens: readonly number[],
    allowShift: boolean,
    minGainTokens: number,
    limits: TransferLimits,
  ): Promise<NodeLlamaCppOnboard> {
    const { tracked } = entry
    const { sequence } = tracked
    const counters = this.#counters
    counters.prompts++
    counters.promptTokens += tokens.length
    const found = await this.#bring(entry, tokens, minGainTokens, limits)
    await tracked.adapt(tokens, allowShift)
    const have = sequence.nextTokenIndex
    const kept = Math.max(0, have - found.onboarded)
    counters.tokensKept += kept
    entry.last = { ...found, tokens: have, promptTokens: tokens.length, kept }
    if (entry.attached) await this.#stopAtBoundary(entry, tokens)
    return { ...found, tokens: sequence.nextTokenIndex }
  }

  /** Brings blocks of the prompt, and stores what the sequence has before it is erased. Fails never. */
  async #bring(
    entry: Entry,
    tokens: readonly number[],
    minGainTokens: number,
    limits: TransferLimits,
  ): Promise<NodeLlamaCppOnboard> {
    const { tracked, meta } = entry
    const context = this.#context
    const nothing = (reason: SkipReason): NodeLlamaCppOnboard => {
      this.#counters.skipped[reason]++
      return { tokens: 0, onboarded: 0, byTier: { host: 0, disk: 0 }, outcome: reason }
    }
    if (context === null || !this.enabled) return nothing('off')
    if (tracked.evaluating) return nothing('busy')
    try {
      return await tracked.alone(async () => {
        const beforeReplacing = async (): Promise<void> => {
          await this.#store(entry, {}, true)
        }
        const always = this.#options.onboardWhen === 'held'
        const plan = { tokens, most: tokens.length, minGainTokens, always, meta, limits, beforeReplacing }
        const found = await restoreState(context, tracked, plan)
        if (found.outcome === 'onboarded') this.#failedLoads = 0
        else if (found.outcome === 'failed') this.#noteFailedLoad()
        // The engine erases what does not belong to the prompt.
        if (found.outcome !== 'onboarded' && tracked.sequence.nextTokenIndex > found.tokens) await beforeReplacing()
        return found
      })
    } catch (error) {
      this.#report('onboard', error)
      return nothing('failed')
    }
  }

  /**
   * A sliding window or a recurrent state is only found again where it was saved: so a prompt is evaluated up to the end
   * of its last whole block, and saved there. What is behind it the engine evaluates as ever.
   */
  async #stopAtBoundary(entry: Entry, tokens: readonly number[]): Promise<void> {
    const context = this.#context
    const { tracked } = entry
    const { sequence } = tracked
    if (context === null || !this.enabled || !context.needsBoundaries || tracked.evaluating) return
    const boundary = Math.floor(tokens.length / context.tokensPerBlock) * context.tokensPerBlock
    if (boundary - sequence.nextTokenIndex < context.tokensPerBlock) return
    context.counters.boundaryStops++
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(sequence.nextTokenIndex, boundary))
    await tracked.alone(() => this.#store(entry, {}, true))
  }

  /** Stores what is new; what fails is counted and told, and stored nowhere. */
  async #store(entry: Entry, limits: TransferLimits, writeBehind: boolean): Promise<OffloadOutcome> {
    const nothing: OffloadOutcome = { tokens: 0, blocks: 0, stored: null }
    if (this.#context === null || !this.enabled || entry.tracked.sequence.disposed) return nothing
    try {
      const outcome = await storeState(this.#context, entry.tracked, entry.meta, limits)
      if (writeBehind && outcome.blocks > 0 && this.#hasDisk()) this.#inBackground(this.#write(outcome, {}))
      return outcome
    } catch (error) {
      this.#counters.offloadFailures++
      this.#report('offload', error)
      return nothing
    }
  }

  async #write(outcome: OffloadOutcome, limits: TransferLimits): Promise<void> {
    if (outcome.stored === null || this.#manager === null) return
    try {
      const reason = await this.#manager.host.persist(outcome.stored, limits)
      if (reason !== '') this.#events.emit('failed', { what: 'write', code: 'ERR_KV_IO', message: reason })
    } catch (error) {
      this.#report('write', error)
    }
  }

  /** Saves when nothing evaluates: one of several evaluations that follow each other at once is not a turn's end. */
  #saveSoon(entry: Entry): void {
    if (!entry.attached || entry.saveDue || this.#options.saveAt !== 'turn-end' || !this.enabled) return
    entry.saveDue = true
    this.#inBackground(
      new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
        await entry.tracked.alone(async () => {
          entry.saveDue = false
          // Of a sequence that was detached meanwhile nobody knows any more what is done with it, and for whom.
          const isWatched = this.#entries.get(entry.tracked.sequence) === entry
          if (isWatched && !entry.tracked.evaluating) await this.#store(entry, {}, true)
        })
      }),
    )
  }

  #inBackground(work: Promise<unknown>): void {
    const watched: Promise<unknown> = work
      .catch((error: unknown) => this.#report('offload', error))
      .finally(() => this.#background.delete(watched))
    this.#background.add(watched)
  }

  #noteFailedLoad(): void {
    const message = 'The engine did not take an image of verified blocks; the prompt is computed instead.'
    this.#events.emit('failed', { what: 'onboard', code: 'ERR_KV_IO', message })
    if (++this.#failedLoads < MOST_FAILED_LOADS) return
    this.#reason = `The engine refused ${MOST_FAILED_LOADS} images one after the other.`
    this.#events.emit('disabled', { reason: this.#reason })
  }

  #report(what: NodeLlamaCppEvents['failed']['what'], error: unknown): void {
    const code = isKvError(error) ? error.code : 'ERR_KV_IO'
    const message = error instanceof Error ? error.message : String(error)
    this.#events.emit('failed', { what, code, message })
  }
}

function checkTokens(tokens: unknown): asserts tokens is readonly number[] {
  if (!Array.isArray(tokens)) invalidType('tokens', 'an array of tokens', tokens)
}
