/**
 * Watches one sequence of the engine: which of its leading tokens have the KV that a fresh evaluation would give, whether
 * it evaluates now, and how fast. Only what is known to be good may be stored.
 *
 * The engine shifts keys in place when tokens in the middle are erased: what is behind them is near to, and not, what a
 * fresh evaluation gives. Between such a shift and the next evaluation a saved state is even wrong.
 */
import { KvError } from '../../errors.js'
import type { EngineSequence } from './engine.js'
import { hasMethod, hookMethod, type Method } from './hook.js'
import { keepingContext } from './keep-context.js'

/** A range of tokens that is erased, as the engine takes it. */
interface Range {
  readonly start: number
  readonly end: number
}

/** What the tracker tells. */
export interface SequenceWatcher {
  /** An evaluation ended, and none is running: the state may be saved. */
  onIdle(): void
  /** The sequence has no tokens any more. */
  onEmpty(): void
  /** `tokens` were evaluated until the first result, which took `ms`. */
  onPrefill(tokens: number, ms: number): void
  /** Stands in for the engine's method; null leaves that alone. */
  readonly adapt: ((tokens: readonly number[], allowShift: boolean) => Promise<void>) | null
}

const ERASE = '_eraseContextTokenRanges'
const COPY = '_copyStateFromOtherSequence'

/** What runs alone on a sequence, and what waits for that: whichever cache it is of. */
const tails = new WeakMap<EngineSequence, Promise<unknown>>()

/** One sequence of the engine under watch. */
export class TrackedSequence {
  readonly sequence: EngineSequence
  readonly #watcher: SequenceWatcher
  readonly #restore: (() => void)[] = []
  /** First token whose KV is not, or may not be, a fresh evaluation's; Infinity: all are. */
  #doubtfulFrom: number
  #shifted = false
  /** How many leading tokens were evaluated for whom they are stored; Infinity: all, and those that come. */
  #ownTokens = Number.POSITIVE_INFINITY
  /** Evaluations that began and did not end; one that is suspended between two tokens leaves when another begins. */
  readonly #evaluations = new Set<object>()
  /** Steps of evaluations that run now. */
  #steps = 0
  /** Loads and copies of states that run now. */
  #replacements = 0
  #epoch = 0
  /** True while the engine's load is being called by us, and at no other time: another caller's may come before it ends. */
  #loading = false
  #adapting = false
  #released = false
  #adapt: (...given: unknown[]) => unknown = (...given) =>
    this.sequence.adaptStateToTokens(given[0] as readonly number[], given[1] === true)

  constructor(sequence: EngineSequence, watcher: SequenceWatcher) {
    this.sequence = sequence
    this.#watcher = watcher
    // What was evaluated before nobody watched.
    this.#doubtfulFrom = sequence.nextTokenIndex > 0 ? 0 : Number.POSITIVE_INFINITY
    this.#hookErase()
    this.#hookForeignStates()
    this.#hookEvaluation()
    const { adapt } = watcher
    if (adapt !== null) {
      this.#adapting = true
      this.#hook('adaptStateToTokens', (original) => {
        this.#adapt = original
        return (...given) =>
          this.#adapting ? adapt(given[0] as readonly number[], given[1] !== false) : original(...given)
      })
    }
  }

  /** How many leading tokens may be stored now; none once nobody watches. */
  get storable(): number {
    const { sequence } = this
    if (sequence.disposed || this.#released || this.#shifted) return 0
    return Math.min(sequence.nextTokenIndex, this.#doubtfulFrom, this.#ownTokens)
  }

  /** Whether all tokens were evaluated for whom they are stored. */
  get isOwn(): boolean {
    return this.sequence.disposed || this.sequence.nextTokenIndex <= this.#ownTokens
  }

  /** What is evaluated from now on is evaluated for somebody else, and not stored before {@link own}. */
  disown(): void {
    this.#ownTokens = this.sequence.disposed ? 0 : Math.min(this.#ownTokens, this.sequence.nextTokenIndex)
  }

  /** The sequence is empty, and what comes is evaluated for whom it is stored. */
  own(): void {
    this.#ownTokens = Number.POSITIVE_INFINITY
  }

  /** Whether an evaluation runs, or is suspended between two tokens. */
  get evaluating(): boolean {
    return this.#evaluations.size > 0
  }

  /** Whether a step of an evaluation runs now: the engine's state is its own until that has ended. */
  get busy(): boolean {
    return this.#steps > 0
  }

  /** Whether tokens may still come of what was begun before: a step of an evaluation, a state. */
  get changing(): boolean {
    return this.#steps > 0 || this.#replacements > 0
  }

  /** Whether the hooks were taken away: what becomes of the sequence is not seen any more. */
  get released(): boolean {
    return this.#released
  }

  /** A number that changes when tokens are erased or replaced. */
  get epoch(): number {
    return this.#epoch
  }

  /** Runs `work` alone: one onboard or offload of a sequence at a time, of all caches that watch it. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    const before = tails.get(this.sequence)
    let end: () => void = () => undefined
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    tails.set(this.sequence, ended)
    await before
    try {
      return await work()
    } finally {
      end()
    }
  }

  /** The engine's own method under the hook. */
  async adapt(tokens: readonly number[], allowShift: boolean): Promise<void> {
    await this.#adapt(tokens, allowShift)
  }

  /**
   * Replaces the state by an image that was verified. When it fails the sequence is empty.
   *
   * @param isWanted - asked before the load and after it: false ends it
   * @throws what the engine threw; ERR_KV_INTERNAL when it loaded something else than `tokenCount` tokens; ERR_KV_ABORTED
   * when it is not wanted any more, or the hooks were taken away meanwhile
   */
  async load(path: string, tokenCount: number, isWanted: () => boolean = () => true): Promise<void> {
    const { sequence } = this
    // A failed load leaves cells of the state before behind, which break the next evaluation.
    await sequence.clearHistory()
    try {
      this.#checkWanted(isWanted)
      await keepingContext(sequence.context, () => this.#loadOurs(path))
      this.#checkWanted(isWanted)
      if (sequence.nextTokenIndex !== tokenCount) {
        throw new KvError(
          'ERR_KV_INTERNAL',
          `The engine took ${sequence.nextTokenIndex} tokens from an image of ${tokenCount}.`,
        )
      }
    } catch (error) {
      if (!sequence.disposed) await sequence.clearHistory()
      throw error
    } finally {
      this.#epoch++
    }
  }

  #checkWanted(isWanted: () => boolean): void {
    if (this.#released || !isWanted()) {
      throw new KvError('ERR_KV_ABORTED', 'The sequence was detached or disposed, or the cache went off, meanwhile.')
    }
  }

  #loadOurs(path: string): Promise<void> {
    this.#loading = true
    try {
      return this.sequence.loadStateFromFile(path, { acceptRisk: true })
    } finally {
      this.#loading = false
    }
  }

  /** The caller knows that what is in the sequence was evaluated there, and nothing in it was shifted. */
  trust(): void {
    this.#forgetDoubts()
  }

  /**
   * Whether the watcher's `adapt` stands in for the engine's method; where it does not, everything else stays watched.
   * True from the start where there is one.
   */
  set adapting(on: boolean) {
    this.#adapting = on && !this.#released
  }

  /** Takes the hooks away: nothing is storable any more, and what is being saved will not be stored. */
  release(): void {
    this.#adapting = false
    this.#released = true
    this.#epoch++
    for (const restore of this.#restore.splice(0).reverse()) restore()
  }

  #hook(name: string, make: (original: Method) => Method): void {
    this.#restore.push(hookMethod(this.sequence, name, make))
  }

  #hookErase(): void {
    const name = hasMethod(this.sequence, ERASE) ? ERASE : 'eraseContextTokenRanges'
    this.#hook(name, (original) => async (...given) => {
      const cut = this.#noteErased(given[0], this.sequence.nextTokenIndex)
      try {
        return await original(...given)
      } finally {
        if (!this.sequence.disposed) this.#noteCut(cut)
      }
    })
  }

  /** Doubts what is behind a range in the middle; returns where the end is cut off, Infinity where it is not. */
  #noteErased(given: unknown, tokenCount: number): number {
    this.#epoch++
    let cut = Number.POSITIVE_INFINITY
    const ranges = Array.isArray(given) ? (given as readonly Range[]) : []
    for (const range of ranges) {
      const start = Math.max(0, Math.min(range.start, range.end))
      const end = Math.max(range.start, range.end)
      if (!(start < end)) continue
      // What moves up to there is not what was there.
      if (this.#ownTokens !== Number.POSITIVE_INFINITY) this.#ownTokens = Math.min(this.#ownTokens, start)
      if (end >= tokenCount) cut = Math.min(cut, start)
      else if (start < tokenCount) this.#doubtFrom(start)
    }
    return cut
  }

  /** An erasure ended: with what was cut off its doubts are gone. */
  #noteCut(cut: number): void {
    this.#epoch++
    const { nextTokenIndex } = this.sequence
    // What comes where these tokens were is not what they were.
    if (this.#ownTokens !== Number.POSITIVE_INFINITY) this.disown()
    if (nextTokenIndex === 0) this.#watcher.onEmpty()
    if (nextTokenIndex === 0 || (nextTokenIndex <= cut && cut <= this.#doubtfulFrom)) this.#forgetDoubts()
    // Tokens came meanwhile, and so it was not the end that was cut off.
    else if (nextTokenIndex > cut && cut !== Number.POSITIVE_INFINITY) this.#doubtFrom(cut)
  }

  #doubtFrom(token: number): void {
    this.#doubtfulFrom = Math.min(this.#doubtfulFrom, token)
    this.#shifted = true
  }

  #forgetDoubts(): void {
    this.#doubtfulFrom = Number.POSITIVE_INFINITY
    this.#shifted = false
  }

  /** A state that somebody else loaded, or copied from another sequence: nobody knows what made it. */
  #hookForeignStates(): void {
    for (const name of ['loadStateFromFile', COPY]) {
      this.#hook(name, (original) => async (...given) => {
        const ours = this.#loading
        this.#epoch++
        if (!ours) this.#noteForeign()
        this.#replacements++
        try {
          const result = await original(...given)
          if (ours) this.#forgetDoubts()
          return result
        } finally {
          this.#replacements--
          // It may have waited for others, after which all seemed well.
          if (!ours && !(this.sequence.disposed || this.sequence.nextTokenIndex === 0)) this.#noteForeign()
          this.#epoch++
        }
      })
    }
  }

  #noteForeign(): void {
    this.#doubtfulFrom = 0
    if (this.#ownTokens !== Number.POSITIVE_INFINITY) this.#ownTokens = 0
  }

  #hookEvaluation(): void {
    this.#hook('evaluateWithMetadata', (original) => (...given) => {
      const iterator = original(...given) as AsyncGenerator<unknown, unknown, unknown>
      return this.#watched(iterator, Array.isArray(given[0]) ? given[0].length : 0)
    })
    for (const name of ['evaluateWithoutGeneratingNewTokens', 'controlledEvaluate']) {
      this.#hook(name, (original) => async (...given) => {
        const tokenCount = Array.isArray(given[0]) ? given[0].length : 0
        const started = performance.now()
        const evaluation = this.#began()
        try {
          const result = await this.#step(evaluation, tokenCount, () => original(...given) as Promise<unknown>)
          this.#watcher.onPrefill(tokenCount, performance.now() - started)
          return result
        } finally {
          this.#ended(evaluation)
        }
      })
    }
  }

  /** An evaluation begins. One that is still suspended between two tokens was left there, for all that is known. */
  #began(): object {
    if (this.#steps === 0) this.#evaluations.clear()
    const evaluation = {}
    this.#evaluations.add(evaluation)
    return evaluation
  }

  /** One step of an evaluation: with its tokens the engine computes every shift that is due. */
  async #step<T>(evaluation: object, tokenCount: number, take: () => Promise<T>): Promise<T> {
    this.#evaluations.add(evaluation)
    this.#steps++
    try {
      const result = await take()
      if (tokenCount > 0) this.#shifted = false
      return result
    } finally {
      this.#steps--
    }
  }

  #ended(evaluation: object): void {
    if (this.#evaluations.delete(evaluation) && this.#evaluations.size === 0) this.#watcher.onIdle()
  }

  /** The engine's iterator, counted as running from its first step to its end. */
  #watched(
    iterator: AsyncGenerator<unknown, unknown, unknown>,
    tokenCount: number,
  ): AsyncGenerator<unknown, unknown, unknown> {
    let evaluation: object | null = null
    let over = false
    const end = (): void => {
      over = true
      if (evaluation !== null) this.#ended(evaluation)
    }
    const take = async (
      tokens: number,
      from: () => Promise<IteratorResult<unknown, unknown>>,
    ): Promise<IteratorResult<unknown, unknown>> => {
      try {
        const result = await (evaluation === null || over ? from() : this.#step(evaluation, tokens, from))
        if (result.done === true) end()
        return result
      } catch (error) {
        end()
        throw error
      }
    }
    const next = async (...given: [] | [unknown]): Promise<IteratorResult<unknown, unknown>> => {
      const [replacement] = given
      const from = (): Promise<IteratorResult<unknown, unknown>> => iterator.next(...given)
      if (evaluation !== null || over) return await take(Array.isArray(replacement) ? replacement.length : 1, from)
      evaluation = this.#began()
      const started = performance.now()
      const result = await take(tokenCount, from)
      this.#watcher.onPrefill(tokenCount, performance.now() - started)
      return result
    }
    const watched: AsyncGenerator<unknown, unknown, unknown> = {
      next,
      return: (value) => take(0, () => iterator.return(value)),
      throw: (error) => take(0, () => iterator.throw(error)),
      [Symbol.asyncIterator]: () => watched,
      [Symbol.asyncDispose]: async () => {
        await watched.return(undefined)
      },
    }
    return watched
  }
}
