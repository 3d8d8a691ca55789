/**
 * Numbers (slots, or entries) ordered by two sort values: a 4-ary heap over typed arrays that knows where each number
 * lies, so that any of them can be removed. Children of a node lie side by side, their sort values too.
 */
import { KvError } from '../../errors.js'

/** Whether `a` comes before `b`; asked only when both sort values are equal. */
export type TieBreaker = (a: number, b: number) => boolean

const FIRST_CAPACITY = 256

/** An indexed heap. A number is in at most one heap of those that share `places`. */
export class SlotHeap {
  /** Where each number lies in its heap, plus one; 0 = in none. */
  readonly #places: Int32Array
  readonly #before: TieBreaker
  #members: Int32Array
  /** Two values a node: the first decides, then the second. */
  #values: Float64Array
  #size = 0

  /**
   * @param places - one number a member, zeroed; may be shared by heaps that never hold the same number
   * @param capacity - members to make room for at once; more grow the heap by doubling
   */
  constructor(places: Int32Array, before: TieBreaker, capacity: number = FIRST_CAPACITY) {
    this.#places = places
    this.#before = before
    this.#members = new Int32Array(capacity)
    this.#values = new Float64Array(capacity * 2)
  }

  /** Members now. */
  get size(): number {
    return this.#size
  }

  /** The member that comes before all others; -1 when empty. */
  get top(): number {
    return this.#size === 0 ? -1 : this.#members[0]!
  }

  /** First sort value of {@link top}; Infinity when empty. */
  get topFirst(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#values[0]!
  }

  /** Whether this heap's top comes before the other's; false when this one is empty. */
  leads(other: SlotHeap): boolean {
    if (this.#size === 0) return false
    if (other.#size === 0) return true
    return this.#isBefore(this.top, this.#values[0]!, this.#values[1]!, other.#values, 0, other.top)
  }

  /** Adds a number that is in no heap of this `places`. */
  push(member: number, first: number, second: number): void {
    if (this.#places[member] !== 0) {
      throw new KvError('ERR_KV_INTERNAL', `Number ${member} was to enter a heap; it is in one already.`)
    }
    if (this.#size === this.#members.length) this.#grow()
    this.#rise(this.#size++, member, first, second)
  }

  /** Takes a member out. */
  remove(member: number): void {
    const at = this.#nodeOf(member)
    this.#places[member] = 0
    const last = --this.#size
    if (at === last) return
    this.#settle(at, this.#members[last]!, this.#values[last * 2]!, this.#values[last * 2 + 1]!)
  }

  /** Gives a member new sort values. */
  update(member: number, first: number, second: number): void {
    this.#settle(this.#nodeOf(member), member, first, second)
  }

  /** Throws where order or places are broken; for tests. O(size). */
  check(): void {
    for (let at = 0; at < this.#size; at++) {
      const member = this.#members[at]!
      const parent = (at - 1) >> 2
      const disordered =
        at > 0 &&
        this.#isBefore(
          member,
          this.#values[at * 2]!,
          this.#values[at * 2 + 1]!,
          this.#values,
          parent,
          this.#members[parent]!,
        )
      if (this.#places[member] !== at + 1 || disordered) {
        throw new KvError('ERR_KV_INTERNAL', `Node ${at} of a heap holds ${member}: wrong place or wrong order.`)
      }
    }
  }

  #nodeOf(member: number): number {
    const at = this.#places[member]! - 1
    if (at < 0 || at >= this.#size || this.#members[at] !== member) {
      throw new KvError('ERR_KV_INTERNAL', `Number ${member} was looked for in a heap that does not hold it.`)
    }
    return at
  }

  #isBefore(a: number, first: number, second: number, values: Float64Array, node: number, b: number): boolean {
    const otherFirst = values[node * 2]!
    if (first !== otherFirst) return first < otherFirst
    const otherSecond = values[node * 2 + 1]!
    if (second !== otherSecond) return second < otherSecond
    return this.#before(a, b)
  }

  #put(at: number, member: number, first: number, second: number): void {
    this.#members[at] = member
    this.#values[at * 2] = first
    this.#values[at * 2 + 1] = second
    this.#places[member] = at + 1
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#members[from]!, this.#values[from * 2]!, this.#values[from * 2 + 1]!)
  }

  #settle(at: number, member: number, first: number, second: number): void {
    const parent = (at - 1) >> 2
    if (at > 0 && this.#isBefore(member, first, second, this.#values, parent, this.#members[parent]!)) {
      this.#rise(at, member, first, second)
    } else this.#sink(at, member, first, second)
  }

  #rise(from: number, member: number, first: number, second: number): void {
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 2
      if (!this.#isBefore(member, first, second, this.#values, parent, this.#members[parent]!)) break
      this.#move(parent, at)
      at = parent
    }
    this.#put(at, member, first, second)
  }

  #sink(from: number, member: number, first: number, second: number): void {
    const values = this.#values
    let at = from
    for (;;) {
      const firstChild = at * 4 + 1
      if (firstChild >= this.#size) break
      const end = firstChild + 4 < this.#size ? firstChild + 4 : this.#size
      let least = firstChild
      for (let child = firstChild + 1; child < end; child++) {
        const other = this.#members[child]!
        if (this.#isBefore(other, values[child * 2]!, values[child * 2 + 1]!, values, least, this.#members[least]!)) {
          least = child
        }
      }
      if (this.#isBefore(member, first, second, values, least, this.#members[least]!)) break
      this.#move(least, at)
      at = least
    }
    this.#put(at, member, first, second)
  }

  #grow(): void {
    const members = new Int32Array(this.#members.length * 2)
    members.set(this.#members)
    this.#members = members
    const values = new Float64Array(this.#values.length * 2)
    values.set(this.#values)
    this.#values = values
  }
}
