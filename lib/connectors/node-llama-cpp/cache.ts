/**
 * The public object: sequences of one node-llama-cpp context, with a block manager behind them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { BlockManager } from '../../block-manager.js'
import { integer, invalidValue, KvError, optionsOf } from '../../errors.js'
import type { Displaces } from '../../movement/context.js'
import { checkLimits, LIMIT_OPTIONS, type Sequence } from '../../movement/sequence.js'
import type { TransferLimits } from '../../movement/transfer.js'
import { DISK } from '../../tiers/types.js'
import type { AdapterWatch } from './adapter-watch.js'
import { type BoundaryPlan, boundariesOf } from './boundaries.js'
import type {
  Attachment,
  AttachOptions,
  CacheDefaults,
  NodeLlamaCppEvents,
  NodeLlamaCppOffload,
  NodeLlamaCppOffloadOptions,
  NodeLlamaCppOnboardOptions,
} from './cache-options.js'
import { type NodeLlamaCppStats, type SkipReason, zeroCacheCounters } from './cache-stats.js'
import { checkTokens } from './check-tokens.js'
import { type BlockMeta, type CacheContext, promptOf } from './context.js'
import { checkEngineSequence, type EngineContext, type EngineSequence } from './engine.js'
import { Health, messageOf } from './health.js'
import { type Attached, holderOf, KnownSequence } from './known-sequence.js'
import { nothingStored, type OffloadOutcome, storeState } from './offload.js'
import { type NodeLlamaCppOnboard, restoreState } from './onboard.js'
import type { StateImages } from './state-images.js'
import { wantedBesides } from './window-ring.js'

const ATTACH_FIELDS = ['tenant', 'priority', 'ttlMs']

/** Keeps the KV of one node-llama-cpp context in a block manager's tiers. Made by `bindNodeLlamaCpp`. */
export class NodeLlamaCppCache {
  readonly #manager: BlockManager | null
  readonly #ownsManager: boolean
  readonly #engine: EngineContext
  readonly #images: StateImages | null
  readonly #context: CacheContext | null
  readonly #options: CacheDefaults
  readonly #known = new Map<EngineSequence, KnownSequence>()
  readonly #background = new Set<Promise<unknown>>()
  readonly #idle = zeroCacheCounters()
  readonly #health: Health
  #closing: Promise<void> | null = null

  /** @internal Use `bindNodeLlamaCpp`. */
  constructor(parts: {
    readonly manager: BlockManager | null
    /** The cache closes the manager when it is closed. */
    readonly ownsManager: boolean
    readonly engine: EngineContext
    /** Begun before the identity of what is stored was told. */
    readonly adapters: AdapterWatch
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
    this.#options = parts.options
    this.#health = new Health(parts.manager, parts.adapters, parts.reason)
    const { images } = parts
    if (images !== null) this.#health.events.on('disabled', () => this.#inBackground(images.keepNone()))
  }

  /** What keeps the blocks; null where this engine's state cannot be cut into blocks. */
  get manager(): BlockManager | null {
    return this.#manager
  }

  /** Whether blocks are used; `stats().reason` says why not. */
  get enabled(): boolean {
    return this.#health.isOn
  }

  /**
   * Makes a sequence use the cache: LlamaChatSession, LlamaChat and LlamaCompletion need no change, for they ask the
   * sequence before every evaluation to adapt to the whole prompt, and that is where blocks come in. Its state is saved when
   * an evaluation ends, behind the caller's back: `await cache.idle()`, or `cache.offload(sequence)`, before a sequence is
   * disposed.
   *
   * Attach a sequence before its first evaluation: what was evaluated before the cache knew it is not stored. A sequence
   * that was detached may be attached again, also for another tenant or to another cache. What is in it then is stored for
   * the tenant before and for nobody else: the first prompt of another one clears it.
   *
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the argument, also for a sequence that
   * is attached already, to this cache or another; ERR_KV_UNSUPPORTED for an engine without what this needs
   */
  attach(sequence: EngineSequence, options: AttachOptions = {}): Attachment {
    this.#checkOpen()
    const known = this.#find(sequence)
    if (known !== undefined && known.attached !== null) {
      throw new KvError('ERR_KV_INVALID_VALUE', 'The sequence is attached already; detach() it first.')
    }
    const meta = this.#metaOf(options)
    // Wrong ones are to be told here, not in the middle of a chat.
    if (this.enabled) this.#manager?.sequence([], meta)
    const entry = known ?? this.#track(sequence, meta)
    const attached: Attached = entry.attach(meta)
    const detach = (): void => {
      if (entry.attached === attached) entry.detach(this.#metaOf({}))
    }
    return {
      sequence,
      get last() {
        return attached.last
      },
      detach,
      [Symbol.dispose]: detach,
    }
  }

  /**
   * Lets the engine's own method adapt the sequence to prompts again; does nothing for a sequence that is not attached. A
   * save that is due is still made.
   */
  detach(sequence: EngineSequence): void {
    this.#known.get(sequence)?.detach(this.#metaOf({}))
  }

  /**
   * Makes a sequence's state the longest prefix of a prompt that it has or a tier holds, and nothing else: evaluate
   * `tokens.slice(sequence.nextTokenIndex)` next. For callers that evaluate on their own; an attached sequence needs no call.
   *
   * @param tokens - the whole prompt; its last token is left to evaluate
   * @returns what came, or why nothing did; a failure is a miss
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE (also for a sequence that is attached to another
   * cache), ERR_KV_INVALID_TOKEN; what the engine throws for a sequence that was disposed
   */
  async onboard(
    sequence: EngineSequence,
    tokens: readonly number[],
    options: NodeLlamaCppOnboardOptions = {},
  ): Promise<NodeLlamaCppOnboard> {
    this.#checkOpen()
    const entry = this.#find(sequence) ?? this.#track(sequence, this.#metaOf({}))
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
   * @returns how much is held now, and why not more; a failure shows there, and in the event `failed`
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE (also for a sequence that is attached to another
   * cache); ERR_KV_UNSUPPORTED for `until: 'disk'` without a disk tier
   */
  async offload(sequence: EngineSequence, options: NodeLlamaCppOffloadOptions = {}): Promise<NodeLlamaCppOffload> {
    this.#checkOpen()
    const entry = this.#find(sequence) ?? this.#track(sequence, this.#metaOf({}))
    const given = optionsOf('options', options, ['until', ...LIMIT_OPTIONS])
    const limits = checkLimits(given)
    const until = given.until ?? 'host'
    if (until !== 'host' && until !== 'disk') invalidValue('until', "'host' or 'disk'", until)
    if (until === 'disk' && !this.#hasDisk()) {
      throw new KvError('ERR_KV_UNSUPPORTED', "until: 'disk' was asked for, but the manager has no disk tier.")
    }
    // Who asks from within a step (a context shift's strategy) would wait for what waits for him.
    if (entry.tracked.busy) return told(nothingStored('A step of an evaluation of the sequence is running.'))
    const outcome = await entry.tracked.alone(() => this.#store(entry, limits, until === 'host'))
    if (until !== 'disk' || outcome.stored === null) return told(outcome)
    const written = await this.#write(outcome.stored, 'any', limits)
    return {
      tokens: Math.min(written.tokens, outcome.tokens),
      blocks: outcome.blocks,
      message: written.message || outcome.message,
    }
  }

  /**
   * Brings what is held of a prompt into host memory, so that an onboard need not wait for the disk.
   *
   * @returns the tokens that are in host memory now
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE, ERR_KV_INVALID_TOKEN
   */
  async prefetch(
    tokens: readonly number[],
    options: TransferLimits & Pick<AttachOptions, 'tenant'> = {},
  ): Promise<number> {
    this.#checkOpen()
    checkTokens(tokens)
    const given = optionsOf('options', options, ['tenant', ...LIMIT_OPTIONS])
    const meta = this.#metaOf({ ...(options.tenant === undefined ? {} : { tenant: options.tenant }) })
    const context = this.#context
    if (!this.enabled || context === null) return 0
    const blockSequence = promptOf(context, tokens, meta)
    const besides = wantedBesides(context.ring, context.tokensPerBlock)
    const reading = await context.manager.host.load(blockSequence, { ...checkLimits(given), ...besides })
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
      reason: this.#health.reason,
      attached: [...this.#known.values()].filter(({ attached }) => attached !== null).length,
      msPerToken: this.#context?.speeds.figures ?? { compute: null, host: null, disk: null },
    }
  }

  /**
   * Calls `listener` at every event of that name.
   *
   * @throws KvError ERR_KV_INVALID_VALUE for a name that no event has; ERR_KV_INVALID_TYPE
   */
  on<K extends keyof NodeLlamaCppEvents>(name: K, listener: (event: NodeLlamaCppEvents[K]) => void): this {
    this.#health.events.on(name, listener)
    return this
  }

  /**
   * Stops calling `listener`.
   *
   * @throws KvError as {@link on}
   */
  off<K extends keyof NodeLlamaCppEvents>(name: K, listener: (event: NodeLlamaCppEvents[K]) => void): this {
    this.#health.events.off(name, listener)
    return this
  }

  /** Resolves when nothing is being saved or written behind the caller's back. */
  async idle(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background)
  }

  /**
   * Detaches every sequence, after what is being saved or written was; an onboard that has not ended by then brings
   * nothing. The context and the model stay open, and so does the manager unless it was opened with the cache.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.idle()
    this.#health.close()
    for (const entry of [...this.#known.values()]) entry.forget()
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
    if (this.#closing !== null) throw new KvError('ERR_KV_CLOSED', 'The cache was closed; bind a new one.')
  }

  #hasDisk(): boolean {
    const groups = this.#manager?.internals.context.groups ?? []
    return groups.some(({ tiers }) => tiers[DISK].storage !== null)
  }

  #metaOf(options: AttachOptions): BlockMeta {
    const given = optionsOf('options', options, ATTACH_FIELDS) as AttachOptions
    return { ...given, tenant: given.tenant ?? this.#options.tenant }
  }

  #find(sequence: unknown): KnownSequence | undefined {
    checkEngineSequence('sequence', sequence, this.#engine)
    const known = this.#known.get(sequence)
    const holder = holderOf(sequence)
    if (holder !== undefined && holder !== known) {
      throw new KvError('ERR_KV_INVALID_VALUE', 'The sequence is attached to another cache; detach() it there first.')
    }
    return known
  }

  #track(sequence: EngineSequence, meta: BlockMeta): KnownSequence {
    const entry: KnownSequence = new KnownSequence(
      sequence,
      meta,
      {
        onIdle: () => this.#saveSoon(entry),
        onPrefill: (tokens, ms) => this.#context?.speeds.computed(tokens, ms),
        adapt: async (tokens, allowShift) => {
          await this.#prepare(entry, tokens, allowShift, this.#options.minGainTokens, {})
        },
      },
      () => this.#known.delete(sequence),
    )
    this.#known.set(sequence, entry)
    return entry
  }

  /** Everything that comes before an evaluation of a prompt, of which `tokens` are all but the last token. */
  async #prepare(
    entry: KnownSequence,
    tokens: readonly number[],
    allowShift: boolean,
    minGainTokens: number,
    limits: TransferLimits,
  ): Promise<NodeLlamaCppOnboard> {
    const { tracked, meta, attached } = entry
    const { sequence } = tracked
    const counters = this.#counters
    counters.prompts++
    counters.promptTokens += tokens.length
    const found = await this.#bring(entry, tokens, minGainTokens, limits)
    await tracked.adapt(tokens, allowShift)
    const have = sequence.nextTokenIndex
    const kept = Math.max(0, have - found.onboarded)
    counters.tokensKept += kept
    entry.claim(meta)
    if (attached === null) return { ...found, tokens: have }
    attached.last = { ...found, tokens: have, promptTokens: tokens.length, kept }
    await this.#stopAtBoundaries(entry, attached, { tokens, minGainTokens, meta })
    return { ...found, tokens: sequence.nextTokenIndex }
  }

  /** Brings blocks of the prompt, and stores what the sequence has before it is erased. Fails never. */
  async #bring(
    entry: KnownSequence,
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
    if (tracked.busy) return nothing('busy')
    try {
      return await tracked.alone(async () => {
        if (tracked.busy) return nothing('busy')
        // Meanwhile it may have been attached for another, here or to another cache.
        const isWanted = (): boolean => this.enabled && entry.meta.tenant === meta.tenant && !entry.isOthers
        const beforeReplacing = async (): Promise<void> => {
          await this.#store(entry, {}, true)
        }
        if (!entry.isOf(meta)) {
          // Nobody's prompt is found, or found faster, because of another's.
          await beforeReplacing()
          if (tracked.busy) return nothing('busy')
          if (!isWanted()) return nothing('aborted')
          await tracked.sequence.clearHistory()
        }
        const always = this.#options.onboardWhen === 'held'
        const plan = { tokens, most: tokens.length, minGainTokens, always, meta, limits, isWanted, beforeReplacing }
        const found = await restoreState(context, tracked, plan)
        if (found.outcome === 'onboarded') this.#health.noteLoad(true)
        else if (found.outcome === 'failed') this.#health.noteLoad(false)
        // The engine erases what does not belong to the prompt.
        if (found.outcome !== 'onboarded' && tracked.sequence.nextTokenIndex > found.tokens) await beforeReplacing()
        return found
      })
    } catch (error) {
      this.#health.report('onboard', error)
      return nothing(this.enabled ? 'failed' : 'off')
    }
  }

  /** Evaluates a prompt up to each place where its state is to be saved, and saves it; the rest the engine evaluates. */
  async #stopAtBoundaries(entry: KnownSequence, attached: Attached, plan: BoundaryPlan): Promise<void> {
    const context = this.#context
    const { tracked } = entry
    const { sequence } = tracked
    let have = sequence.nextTokenIndex
    const isOurs = (): boolean =>
      // Not for whoever has it now.
      this.enabled &&
      entry.attached === attached &&
      !tracked.busy &&
      !sequence.disposed &&
      sequence.nextTokenIndex === have
    if (context === null || !isOurs()) return
    const places = await boundariesOf(context, sequence, plan).catch((error: unknown) => {
      this.#health.report('offload', error)
      return []
    })
    for (const place of places) {
      if (!isOurs()) return
      context.counters.boundaryStops++
      await sequence.evaluateWithoutGeneratingNewTokens(plan.tokens.slice(have, place))
      have = place
      await tracked.alone(() => this.#store(entry, {}, true))
    }
  }

  /** Stores what is new; what fails is counted and told, and stored nowhere. */
  async #store(entry: KnownSequence, limits: TransferLimits, writeBehind: boolean): Promise<OffloadOutcome> {
    if (this.#context === null || !this.enabled) return nothingStored(`The cache is off: ${this.#health.reason}`)
    if (entry.tracked.sequence.disposed) return nothingStored('The sequence was disposed.')
    try {
      const outcome = await storeState(this.#context, entry.tracked, entry.owner, limits)
      if (writeBehind && outcome.stored !== null && outcome.blocks > 0 && this.#hasDisk()) {
        // Nobody asked for the disk by name: what is worth more stays there.
        this.#inBackground(this.#write(outcome.stored, 'lesser', {}))
      }
      return outcome
    } catch (error) {
      this.#counters.offloadFailures++
      this.#health.report('offload', error)
      return nothingStored(messageOf(error))
    }
  }

  async #write(
    stored: Sequence,
    displaces: Displaces,
    limits: TransferLimits,
  ): Promise<{ readonly tokens: number; readonly message: string }> {
    try {
      // Publishing the blocks has filled this turn of the event loop.
      await nextTurn()
      const written = (await this.#manager?.host.persist(stored, displaces, limits)) ?? { tokens: 0, message: '' }
      const { message } = written
      if (message !== '') this.#health.tell('write', 'ERR_KV_IO', message)
      return written
    } catch (error) {
      this.#health.report('write', error)
      return { tokens: 0, message: messageOf(error) }
    }
  }

  /** Saves when nothing evaluates: one of several evaluations that follow each other at once is not a turn's end. */
  #saveSoon(entry: KnownSequence): void {
    if (entry.attached === null || entry.saveDue || this.#options.saveAt !== 'turn-end') return
    if (!this.enabled || this.#closing !== null) return
    entry.saveDue = true
    this.#inBackground(
      new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
        await entry.tracked.alone(async () => {
          entry.saveDue = false
          if (!entry.tracked.evaluating) await this.#store(entry, {}, true)
        })
      }),
    )
  }

  #inBackground(work: Promise<unknown>): void {
    const watched: Promise<unknown> = work
      .catch((error: unknown) => this.#health.report('offload', error))
      .finally(() => this.#background.delete(watched))
    this.#background.add(watched)
  }
}

function told({ tokens, blocks, message }: OffloadOutcome): NodeLlamaCppOffload {
  return { tokens, blocks, message }
}
