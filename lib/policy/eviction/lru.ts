/** Least recently used: the leaf whose last use is longest ago leaves first. */
import type { EvictionPolicy, PolicyContext } from './types.js'

class Lru implements EvictionPolicy {
  readonly #lastUse: Float64Array

  constructor(lastUse: Float64Array) {
    this.#lastUse = lastUse
  }

  insert(): void {}

  touch(): void {}

  inherit(): void {}

  rank(slot: number): number {
    return this.#lastUse[slot]!
  }
}

/**
 * Exactly LRU with every request's blocks touched last to first: the caller keeps the last uses and hands a leaving
 * leaf's on to its parent, so nothing is left to do here.
 */
export function makeLru(context: PolicyContext): EvictionPolicy {
  return new Lru(context.lastUse)
}
