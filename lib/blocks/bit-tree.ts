/** A set of small integers that finds the next member from any number on: a bit each, and a tree of "not empty" bits. */

const FULL_WORD = -1

/** Members between 0 and `size - 1`. Allocates in its constructor only. */
export class BitTree {
  /** How many integers there are. */
  readonly size: number
  /** `#levels[0]` has a bit a member; a bit of the next level says that a word of this one is not zero. */
  readonly #levels: Int32Array[] = []
  /** `#levels[0]`. */
  readonly #bits: Int32Array

  /** An empty set. */
  constructor(size: number) {
    this.size = size
    let words = size
    do {
      words = (words + 31) >>> 5
      this.#levels.push(new Int32Array(words))
    } while (words > 1)
    this.#bits = this.#levels[0]!
  }

  /** Makes every integer a member. */
  fill(): void {
    let bits = this.size
    for (const words of this.#levels) {
      words.fill(FULL_WORD)
      if ((bits & 31) !== 0) words[words.length - 1] = FULL_WORD >>> (32 - (bits & 31))
      bits = words.length
    }
  }

  has(member: number): boolean {
    return (this.#bits[member >>> 5]! & (1 << (member & 31))) !== 0
  }

  add(member: number): void {
    const before = this.#bits[member >>> 5]!
    this.#bits[member >>> 5] = before | (1 << (member & 31))
    if (before === 0) this.#addAbove(member >>> 5)
  }

  remove(member: number): void {
    const after = this.#bits[member >>> 5]! & ~(1 << (member & 31))
    this.#bits[member >>> 5] = after
    if (after === 0) this.#removeAbove(member >>> 5)
  }

  /** Whether the 32 integers of `member`'s word are all members. */
  hasWholeWord(member: number): boolean {
    return this.#bits[member >>> 5]! === FULL_WORD
  }

  /** The smallest member that is not below `from`; -1 when there is none. */
  firstFrom(from: number): number {
    let at = from
    for (let level = 0; level < this.#levels.length; level++) {
      const words = this.#levels[level]!
      const word = at >>> 5
      if (word >= words.length) return -1
      const rest = words[word]! & (FULL_WORD << (at & 31))
      if (rest !== 0) return this.#descend(level, (word << 5) + lowestBit(rest))
      at = word + 1
    }
    return -1
  }

  /** A word of the lowest level is not zero any more. */
  #addAbove(word: number): void {
    let at = word
    for (let level = 1; level < this.#levels.length; level++) {
      const words = this.#levels[level]!
      const before = words[at >>> 5]!
      words[at >>> 5] = before | (1 << (at & 31))
      if (before !== 0) return
      at >>>= 5
    }
  }

  /** A word of the lowest level is zero now. */
  #removeAbove(word: number): void {
    let at = word
    for (let level = 1; level < this.#levels.length; level++) {
      const words = this.#levels[level]!
      const after = words[at >>> 5]! & ~(1 << (at & 31))
      words[at >>> 5] = after
      if (after !== 0) return
      at >>>= 5
    }
  }

  #descend(level: number, found: number): number {
    let at = found
    for (let below = level - 1; below >= 0; below--) at = (at << 5) + lowestBit(this.#levels[below]![at]!)
    return at
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}
