/**
 * How long kvtier keeps the JavaScript thread without a pause. A stretch begins where control comes to kvtier: with a public
 * call, with a completion of the addon, with a result of the engine, after a turn it waited for. It ends when everything that became ready meanwhile
 * has run and control goes back to the event loop. What the engine's methods do before they return is left out; what else
 * of the engine's JavaScript runs before the event loop does is in it. So it is never shorter than what kvtier runs.
 */
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'
import { Completions } from '../../lib/native/completions.js'

type Method = (...given: unknown[]) => unknown

/** The longest stretch, in seconds of the given clock. */
export class Stretches {
  readonly #clock: () => number
  #startedAt = 0
  #isOpen = false
  #outside = 0
  #longest = 0
  #count = 0

  /** @param clock - seconds of processor time of this thread */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  get longest(): number {
    return this.#longest
  }

  /** How many there were. */
  get count(): number {
    return this.#count
  }

  /** Forgets what was measured. */
  reset(): void {
    this.#longest = 0
    this.#count = 0
  }

  /** Control comes to kvtier. */
  enter(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    this.#outside = 0
    // Ticks run when no microtask is left, also none of those that are still to come.
    queueMicrotask(() => process.nextTick(() => this.#leave()))
    this.#startedAt = this.#clock()
  }

  /** Runs what is not kvtier's. */
  without<T>(run: () => T): T {
    const started = this.#clock()
    try {
      return run()
    } finally {
      this.#outside += this.#clock() - started
    }
  }

  #leave(): void {
    const seconds = this.#clock() - this.#startedAt - this.#outside
    this.#isOpen = false
    this.#count++
    this.#longest = Math.max(this.#longest, seconds)
  }
}

/** Watches turns of the event loop that kvtier waits for; gives back what takes that away again. */
export function watchTurns(stretches: Stretches): () => void {
  const { setImmediate: turn } = timers
  timers.setImmediate = (async (...given: Parameters<typeof turn>) => {
    const value = await turn(...given)
    stretches.enter()
    return value
  }) as typeof turn
  syncBuiltinESMExports()
  return () => {
    timers.setImmediate = turn
    syncBuiltinESMExports()
  }
}

/** Watches completions of the addon; gives back what takes that away again. */
export function watchCompletions(stretches: Stretches): () => void {
  const { prototype } = Completions
  const { batch } = prototype
  prototype.batch = function (this: Completions, start, { onReady, onDone, onSettled }) {
    return batch.call(this, start, {
      onReady:
        onReady &&
        (() => {
          stretches.enter()
          onReady()
        }),
      onDone: (...outcome) => {
        stretches.enter()
        onDone(...outcome)
      },
      onSettled: () => {
        stretches.enter()
        onSettled()
      },
    })
  }
  return () => {
    prototype.batch = batch
  }
}

/** Watches methods of the engine that give promises: what they do is not kvtier's, what follows on their results is. */
export function watchMethods(stretches: Stretches, target: object, names: readonly string[]): void {
  const methods = target as Record<string, Method>
  for (const name of names) {
    const original = methods[name]
    if (original === undefined) throw new Error(`The engine has no method ${name}.`)
    methods[name] = (...given) => {
      const result = stretches.without(() => original.apply(target, given)) as Promise<unknown>
      return result.finally(() => stretches.enter())
    }
  }
}
