/** First in, first out: the leaf that came first leaves first, however often it was used. */
import type { EvictionPolicy, PolicyContext } from './types.js'

class Fifo implements EvictionPolicy {
  readonly #cameAt: Float64Array

  constructor(slotCount: number) {
    this.#cameAt = new Float64Array(slotCount)
  }

  insert(slot: number, tick: number): void {
    this.#cameAt[slot] = tick
  }

  touch(): void {}

  inherit(): void {}

  rank(slot: number): number {
    return this.#cameAt[slot]!
  }
}

/** Insertion order among the leaves. */
export function makeFifo(context: PolicyContext): EvictionPolicy {
  return new Fifo(context.slotCount)
}
