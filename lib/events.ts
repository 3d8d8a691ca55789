/**
 * What a manager, or a connector, tells while it works. Events are information: nothing depends on somebody listening, and a listener
 * that throws does not disturb a transfer.
 */
import { invalidType, KvError, suggestion } from './errors.js'
import type { TierName } from './tiers/types.js'

/** Events of a block manager by name, each with its one argument. */
export interface ManagerEvents {
  /** Blocks became visible in a tier. */
  stored: { readonly tier: TierName; readonly blocks: number; readonly group: string }
  /** Blocks left a tier, by eviction or expiry. */
  evicted: { readonly tier: TierName; readonly blocks: number; readonly group: string }
  /** Blocks were lost: a check failed or a block before them is gone. */
  lost: { readonly tier: TierName; readonly blocks: number; readonly group: string; readonly reason: string }
  /** A tier failed a transfer; its blocks are misses, the manager goes on. */
  tierFailed: { readonly tier: TierName; readonly code: string; readonly message: string }
}

type Listener<T> = (event: T) => void

const KNOWN: Readonly<Record<keyof ManagerEvents, true>> = { stored: true, evicted: true, lost: true, tierFailed: true }

function check(name: unknown, names: readonly string[], listener: unknown): void {
  if (typeof name !== 'string') invalidType('name', 'the name of an event', name)
  if (!names.includes(name)) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      `There is no event ${JSON.stringify(name)}.${suggestion(name, names)} The events are ${names.join(', ')}.`,
    )
  }
  if (typeof listener !== 'function') invalidType('listener', 'a function', listener)
}

/** A small typed emitter: `on` and `off`, nothing else. */
export class Emitter<M extends object> {
  readonly #names: readonly string[]
  readonly #listeners = new Map<keyof M, Set<Listener<never>>>()

  /** @param known - the names of all events */
  constructor(known: Readonly<Record<keyof M, true>>) {
    this.#names = Object.keys(known)
  }

  /**
   * Calls `listener` at every event of that name until `off`.
   *
   * @throws KvError ERR_KV_INVALID_VALUE for a name that no event has; ERR_KV_INVALID_TYPE
   */
  on<K extends keyof M>(name: K, listener: Listener<M[K]>): void {
    check(name, this.#names, listener)
    const listeners = this.#listeners.get(name) ?? new Set()
    listeners.add(listener as Listener<never>)
    this.#listeners.set(name, listeners)
  }

  /**
   * Stops calling `listener`; does nothing where it was not called.
   *
   * @throws KvError as {@link on}
   */
  off<K extends keyof M>(name: K, listener: Listener<M[K]>): void {
    check(name, this.#names, listener)
    this.#listeners.get(name)?.delete(listener as Listener<never>)
  }

  /** Tells every listener; what one throws is rethrown where nothing of ours is on the stack. */
  emit<K extends keyof M>(name: K, event: M[K]): void {
    const listeners = this.#listeners.get(name)
    if (listeners === undefined) return
    for (const listener of [...listeners]) {
      try {
        ;(listener as Listener<M[K]>)(event)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}

/** The events of a block manager. */
export class Events extends Emitter<ManagerEvents> {
  constructor() {
    super(KNOWN)
  }
}
