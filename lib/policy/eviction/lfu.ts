/**
 * Least frequently used: the leaf with the fewest uses since it came leaves first, of equal ones the least recently used.
 * Kept for comparison: on the public traces it is up to 60 points worse than LRU.
 */
import type { EvictionPolicy, PolicyContext } from './types.js'

class Lfu implements EvictionPolicy {
  readonly #uses: Float64Array
  /** Of these uses, those that the blocks before were not told of yet. */
  readonly #untold: Float64Array

  constructor(slotCount: number) {
    this.#uses = new Float64Array(slotCount)
    this.#untold = new Float64Array(slotCount)
  }

  insert(slot: number): void {
    this.#uses[slot] = 0
    this.#untold[slot] = 0
  }

  touch(slot: number, _tick: number, passOn: boolean): void {
    this.#uses[slot]! += 1
    if (passOn) this.#untold[slot]! += 1
  }

  inherit(parent: number, child: number): void {
    const untold = this.#untold[child]!
    this.#untold[child] = 0
    this.#uses[parent]! += untold
    this.#untold[parent]! += untold
  }

  rank(slot: number): number {
    return this.#uses[slot]!
  }
}

/** Counts uses while a block is in the tier; a block that comes back starts at none. */
export function makeLfu(context: PolicyContext): EvictionPolicy {
  return new Lfu(context.slotCount)
}
