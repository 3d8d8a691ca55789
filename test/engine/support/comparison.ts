import { expect } from 'vitest'
import { type Logits, largestDifference } from './engine.js'

/** Holds what was restored against what was computed, prefix by prefix, and counts. */
export class Comparison {
  readonly #bound: number
  #prefixes = 0
  #tokens = 0
  #largest = 0

  /** @param bound - largest difference of a logit */
  constructor(bound: number) {
    this.#bound = bound
  }

  /** The logits behind a prefix and its rest, computed and restored. */
  logits(prefix: number, computed: Logits, restored: Logits): void {
    const difference = largestDifference(computed, restored)
    expect(difference, `prefix ${prefix}`).toBeLessThanOrEqual(this.#bound)
    this.#largest = Math.max(this.#largest, difference)
    this.#prefixes++
  }

  /** The greedy tokens that followed. */
  answers(prefix: number, computed: readonly number[], restored: readonly number[]): void {
    expect(restored, `prefix ${prefix}`).toEqual(computed)
    this.#tokens += computed.length
  }

  /** Prints the counts. */
  print(what: string): void {
    const counts = `${this.#prefixes} prefixes, largest difference of a logit ${this.#largest}, ${this.#tokens} greedy tokens`
    process.stdout.write(`${what}: ${counts} the same\n`)
  }
}
