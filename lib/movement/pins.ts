/**
 * Pins of one layer group that a request holds until it ends.
 */
import type { GroupBlocks } from '../blocks/group-blocks.js'

/** Holds blocks in their tiers; all are let go together. */
export class Pins {
  readonly #blocks: GroupBlocks
  /** Entry and tier, flat. */
  #held: number[] = []

  constructor(blocks: GroupBlocks) {
    this.#blocks = blocks
  }

  /** Keeps a published block where it is. */
  pin(entry: number, tier: number): void {
    this.#blocks.pin(entry, tier)
    this.#held.push(entry, tier)
  }

  /** Lets go of everything. Calling it again does nothing. */
  release(): void {
    const held = this.#held
    this.#held = []
    for (let i = 0; i < held.length; i += 2) this.#blocks.unpin(held[i] ?? -1, held[i + 1] ?? 0)
  }
}
