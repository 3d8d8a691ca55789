/**
 * The free slots of a tier, handed out in ascending runs: consecutive slots of a slab are read and written as one
 * operation. A run goes on while the next slot is free; a new one starts at 32 free slots in a row where there are any.
 */
import { BitTree } from './bit-tree.js'

const WORD = 32

/** Which slots are free. All are at the start. */
export class FreeSlots {
  readonly #free: BitTree
  /** Words of 32 slots that are free altogether. */
  readonly #wholeWords: BitTree
  #next = 0
  #count: number

  constructor(slotCount: number) {
    this.#free = new BitTree(slotCount)
    this.#free.fill()
    this.#wholeWords = new BitTree(slotCount >>> 5)
    this.#wholeWords.fill()
    this.#count = slotCount
  }

  /** Free slots now. */
  get count(): number {
    return this.#count
  }

  /** Whether a slot is free. */
  has(slot: number): boolean {
    return this.#free.has(slot)
  }

  /** Takes the free slot that continues the last run best; -1 when none is free. */
  take(): number {
    if (this.#count === 0) return -1
    const next = this.#next
    const slot = next < this.#free.size && this.#free.has(next) ? next : this.#startOfRun(next)
    this.#remove(slot)
    this.#next = slot + 1
    return slot
  }

  /** Takes this very slot; false when it is not free. */
  claim(slot: number): boolean {
    if (!this.#free.has(slot)) return false
    this.#remove(slot)
    return true
  }

  /** Makes a taken slot free again. */
  release(slot: number): void {
    this.#free.add(slot)
    if (this.#free.hasWholeWord(slot)) this.#wholeWords.add(slot >>> 5)
    this.#count++
  }

  #remove(slot: number): void {
    if (this.#free.hasWholeWord(slot)) this.#wholeWords.remove(slot >>> 5)
    this.#free.remove(slot)
    this.#count--
  }

  #startOfRun(from: number): number {
    const after = this.#wholeWords.firstFrom((from + WORD - 1) >>> 5)
    const word = after >= 0 ? after : this.#wholeWords.firstFrom(0)
    return word >= 0 ? word * WORD : this.#firstFreeFrom(from)
  }

  #firstFreeFrom(from: number): number {
    const after = this.#free.firstFrom(from)
    return after >= 0 ? after : this.#free.firstFrom(0)
  }
}
