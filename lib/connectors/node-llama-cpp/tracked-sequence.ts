/**
 * Watches one sequence of the engine: which of its leading tokens have the KV that a fresh evaluation would give, whether
 * it evaluates now, and how fast. Only what is known to be good may be stored.
 *
 * The engine shifts keys in place when tokens in the middle are erased: what is behind them is near to, and not, what a
 * fresh evaluation gives. Between such a shift and the next evaluation a saved state is even wrong.
 */
import { KvError } from '../../errors.js'
import type { EngineSequence } from './engine.js'
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
  /** `tokens` were evaluated until the first result, which took `ms`. */
  onPrefill(tokens: number, ms: number): void
  /** Replaces the engine's method while attached; null leaves it alone. */
  readonly adapt: ((tokens: readonly number[], allowShift: boolean) => Promise<void>) | null
}

/** Methods that are hooked: what is hidden here is asked for by name, for an engine may lack it. */
type Hooked = Record<string, unknown>

const ERASE = '_eraseContextTokenRanges'
const COPY = '_copyStateFromOtherSequence'

/** One sequence of the engine under watch. */
export class TrackedSequence {
  readonly sequence: EngineSequence
  readonly #watcher: SequenceWatcher
  readonly #restore: (() => void)[] = []
  /** First token whose KV is not, or may not be, a fresh evaluation's; Infinity: all are. */
  #doubtfulFrom: number
  #shifted = false
  #evaluating = 0
  #epoch = 0
  #loading = false
  #tail: Promise<unknown> = Promise.resolve()
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
      this.#hook('adaptStateToTokens', (original) => {
        this.#adapt = original
        return (tokens: unknown, allowShift: unknown = true) => adapt(tokens as readonly number[], allowShift === true)
      })
    }
  }

  /** How many leading tokens may be stored now. */
  get storable(): number {
    const { sequence } = this
    if (sequence.disposed || this.#shifted) return 0
    return Math.min(sequence.nextTokenIndex, this.#doubtfulFrom)
  }

  /** Whether an evaluation runs, or is suspended between two tokens. */
  get evaluating(): boolean {
    return this.#evaluating > 0
  }

  /** A number that changes when tokens are erased or replaced. */
  get epoch(): number {
    return this.#epoch
  }

  /** Runs `work` alone: one onboard or offload of a sequence at a time. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#tail
    let end: () => void = () => undefined
    this.#tail = new Promise<void>((resolve) => {
      end = resolve
    })
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
   * @throws what the engine threw; ERR_KV_INTERNAL when it loaded something else than `tokenCount` tokens
   */
  async load(path: string, tokenCount: number): Promise<void> {
    const { sequence } = this
    // A failed load leaves cells of the state before behind, which break the next evaluation.
    await sequence.clearHistory()
    this.#loading = true
    try {
      await keepingContext(sequence.context, () => sequence.loadStateFromFile(path, { acceptRisk: true }))
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
      this.#loading = false
      this.#epoch++
    }
  }

  /** The caller knows that what is in the sequence was evaluated there, and nothing in it was shifted. */
  trust(): void {
    this.#forgetDoubts()
  }

  /** Takes the hooks away. */
  release(): void {
    for (const restore of this.#restore.splice(0).reverse()) restore()
  }

  #hook(name: string, make: (original: (...given: unknown[]) => unknown) => (...given: unknown[]) => unknown): void {
    const target = this.sequence as unknown as Hooked
    const original = target[name]
    if (typeof original !== 'function') return
    const own = Object.hasOwn(target, name)
    const replaced = make((...given) => original.apply(target, given))
    target[name] = replaced
    this.#restore.push(() => {
      // Somebody else hooked it after us: theirs calls ours, which then only passes on.
      if (target[name] !== replaced) return
      if (own) target[name] = original
      else delete target[name]
    })
  }

  #hookErase(): void {
    const name = typeof (this.sequence as unknown as Hooked)[ERASE] === 'function' ? ERASE : 'eraseContextTokenRanges'
    this.#hook(name, (original) => async (...given) => {
      const before = this.sequence.nextTokenIndex
      this.#noteErased(given[0], before)
      try {
        return await original(...given)
      } finally {
        if (!this.sequence.disposed && this.sequence.nextTokenIndex === 0) this.#forgetDoubts()
      }
    })
  }

  #noteErased(given: unknown, tokenCount: number): void {
    this.#epoch++
    const ranges = Array.isArray(given) ? (given as readonly Range[]) : []
    for (const range of ranges) {
      const start = Math.max(0, Math.min(range.start, range.end))
      const end = Math.max(range.start, range.end)
      if (!(start < end) || start >= tokenCount) continue
      if (end < tokenCount) {
        this.#doubtfulFrom = Math.min(this.#doubtfulFrom, start)
        this.#shifted = true
      }
    }
    // A cut at the end that takes everything doubtful away.
    const [only] = ranges
    if (ranges.length !== 1 || only === undefined) return
    const start = Math.min(only.start, only.end)
    if (Math.max(only.start, only.end) >= tokenCount && start <= this.#doubtfulFrom) this.#forgetDoubts()
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
        if (!ours) this.#doubtfulFrom = 0
        const result = await original(...given)
        if (ours) this.#forgetDoubts()
        return result
      })
    }
  }

  #hookEvaluation(): void {
    this.#hook('evaluateWithMetadata', (original) => (...given) => {
      const iterator = original(...given) as AsyncGenerator<unknown, unknown, unknown>
      return this.#watched(iterator, Array.isArray(given[0]) ? given[0].length : 0)
    })
    for (const name of ['evaluateWithoutGeneratingNewTokens', 'controlledEvaluate']) {
      this.#hook(name, (original) => async (...given) => {
        const started = performance.now()
        this.#evaluating++
        try {
          const result = await original(...given)
          this.#shifted = false
          if (Array.isArray(given[0])) this.#watcher.onPrefill(given[0].length, performance.now() - started)
          return result
        } finally {
          this.#ended()
        }
      })
    }
  }

  #ended(): void {
    this.#evaluating--
    if (this.#evaluating === 0) this.#watcher.onIdle()
  }

  /** The engine's iterator, counted as running from its first step to its end. */
  #watched(
    iterator: AsyncGenerator<unknown, unknown, unknown>,
    tokenCount: number,
  ): AsyncGenerator<unknown, unknown, unknown> {
    let state: 'new' | 'running' | 'over' = 'new'
    const end = (): void => {
      if (state === 'running') this.#ended()
      state = 'over'
    }
    const step = async (take: () => Promise<IteratorResult<unknown, unknown>>): Promise<IteratorResult<unknown>> => {
      try {
        const result = await take()
        if (result.done === true) end()
        return result
      } catch (error) {
        end()
        throw error
      }
    }
    const first = async (...given: [] | [unknown]): Promise<IteratorResult<unknown, unknown>> => {
      state = 'running'
      this.#evaluating++
      const started = performance.now()
      const result = await iterator.next(...given)
      this.#shifted = false
      this.#watcher.onPrefill(tokenCount, performance.now() - started)
      return result
    }
    const watched: AsyncGenerator<unknown, unknown, unknown> = {
      next: (...given) => step(() => (state === 'new' ? first(...given) : iterator.next(...given))),
      return: (value) => step(() => iterator.return(value)),
      throw: (error) => step(() => iterator.throw(error)),
      [Symbol.asyncIterator]: () => watched,
      [Symbol.asyncDispose]: async () => {
        await watched.return(undefined)
      },
    }
    return watched
  }
}
