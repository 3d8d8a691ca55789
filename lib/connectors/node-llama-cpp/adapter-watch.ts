/**
 * Watches the LoRA adapters of one context: they change the KV, and the engine lets them be set anew at any time without
 * saying so. Its list of adapters only grows and has no scales, and so the call itself is what is watched.
 */
import type { EngineContext } from './engine.js'
import { hookMethod } from './hook.js'

/** What sets adapters, by the names of the engine's versions. */
const SETTERS = ['_setLoras', '_setLora']

/** From the moment of its making on, until it is closed. */
export class AdapterWatch {
  readonly #restore: readonly (() => void)[]
  #changed = false
  #listener: () => void = () => undefined

  constructor(context: EngineContext) {
    this.#restore = SETTERS.map((name) =>
      hookMethod(context, name, (original) => (...given) => {
        this.#note()
        return original(...given)
      }),
    )
  }

  /** Calls `listener` before adapters are set for the first time; at once where they were. */
  onChange(listener: () => void): void {
    this.#listener = listener
    if (this.#changed) listener()
  }

  /** Stops watching. */
  close(): void {
    this.#listener = () => undefined
    for (const restore of [...this.#restore].reverse()) restore()
  }

  #note(): void {
    if (this.#changed) return
    this.#changed = true
    this.#listener()
  }
}
