/**
 * The slots of one tier and their states: free → filling → (published) pinned ⇄ evictable → free. Knows which entry a
 * slot belongs to and how often it is pinned, nothing else of blocks.
 */
import { FreeSlots } from './free-slots.js'
import { misuse } from './misuse.js'

const FREE = 0
const FILLING = 1
const EVICTABLE = 2
const PINNED = 3

/** State of a slot. */
export type SlotState = 'free' | 'filling' | 'evictable' | 'pinned'

const STATE_NAMES: readonly SlotState[] = ['free', 'filling', 'evictable', 'pinned']

/** No entry: the slot was taken and not assigned yet. */
export const NO_ENTRY = -1

/** One tier's slots. Every transition that the states do not allow throws `ERR_KV_INTERNAL`. */
export class BlockPool {
  readonly slotCount: number
  readonly #tier: number
  readonly #free: FreeSlots
  readonly #states: Uint8Array
  readonly #pins: Uint32Array
  readonly #owners: Int32Array
  readonly #counts = new Float64Array(STATE_NAMES.length)

  /** @param tier - its number, for messages */
  constructor(tier: number, slotCount: number) {
    this.slotCount = slotCount
    this.#tier = tier
    this.#free = new FreeSlots(slotCount)
    this.#states = new Uint8Array(slotCount)
    this.#pins = new Uint32Array(slotCount)
    this.#owners = new Int32Array(slotCount)
    this.#counts[FREE] = slotCount
  }

  /** Slots in a state now. */
  count(state: SlotState): number {
    return this.#counts[STATE_NAMES.indexOf(state)]!
  }

  stateOf(slot: number): SlotState {
    return (
      STATE_NAMES[this.#states[slot]!] ??
      misuse(`Slot ${slot} of tier ${this.#tier} was asked about; ${this.#there()}.`)
    )
  }

  /** Whether the slot's block is published: pinned or evictable. */
  isPublished(slot: number): boolean {
    return this.#states[slot]! >= EVICTABLE
  }

  isFilling(slot: number): boolean {
    return this.#states[slot] === FILLING
  }

  pinsOf(slot: number): number {
    return this.#pins[slot]!
  }

  isFree(slot: number): boolean {
    return this.#states[slot] === FREE
  }

  /** The entry that a slot was assigned to; {@link NO_ENTRY} for a taken slot that was not. */
  ownerOf(slot: number): number {
    return (this.#owners[slot] ?? 0) - 1
  }

  /** A free slot, now filling, preferably the one after the last; -1 when none is free. */
  take(): number {
    const slot = this.#free.take()
    if (slot >= 0) this.#enter(slot, FREE, FILLING)
    return slot
  }

  /** Gives this very slot to an entry, published and without a pin; false when it is not free. */
  adopt(slot: number, entry: number): boolean {
    if (!this.#free.claim(slot)) return false
    this.#owners[slot] = entry + 1
    this.#enter(slot, FREE, EVICTABLE)
    return true
  }

  /** Gives a filling slot to an entry. */
  assign(slot: number, entry: number): void {
    this.#expect(slot, FILLING, 'assigned')
    if (this.#owners[slot] !== 0)
      misuse(`Slot ${slot} of tier ${this.#tier} was to be assigned; entry ${this.ownerOf(slot)} has it.`)
    this.#owners[slot] = entry + 1
  }

  /** The other way: the slot is filling and nobody's. */
  unassign(slot: number): void {
    this.#expect(slot, FILLING, 'unassigned')
    this.#owners[slot] = 0
  }

  /** What was filling is published, with this many pins. */
  publish(slot: number, pins: number): void {
    this.#expect(slot, FILLING, 'published')
    this.#pins[slot] = pins
    this.#enter(slot, FILLING, pins > 0 ? PINNED : EVICTABLE)
  }

  /** One more pin. */
  pin(slot: number): void {
    if (!this.isPublished(slot)) this.#refuse(slot, 'pinned')
    const pins = this.#pins[slot]! + 1
    this.#pins[slot] = pins
    if (pins === 1) this.#enter(slot, EVICTABLE, PINNED)
  }

  /** One pin less; true when it was the last. */
  unpin(slot: number): boolean {
    this.#expect(slot, PINNED, 'unpinned')
    const pins = this.#pins[slot]! - 1
    this.#pins[slot] = pins
    if (pins === 0) this.#enter(slot, PINNED, EVICTABLE)
    return pins === 0
  }

  /** A filling or evictable slot is free again. */
  release(slot: number): void {
    const state = this.#states[slot]!
    if (state !== FILLING && state !== EVICTABLE) this.#refuse(slot, 'freed')
    this.#owners[slot] = 0
    this.#enter(slot, state, FREE)
    this.#free.release(slot)
  }

  /** Throws where counts, states and the free list differ; for tests. O(slots). */
  check(): void {
    const counts = STATE_NAMES.map(() => 0)
    for (let slot = 0; slot < this.slotCount; slot++) {
      const state = this.#states[slot]!
      counts[state] = (counts[state] ?? 0) + 1
      if (this.#free.has(slot) !== (state === FREE)) this.#refuse(slot, 'in the free list as its state says')
      if ((state === PINNED) !== this.#pins[slot]! > 0)
        this.#refuse(slot, `in a state that fits ${this.#pins[slot]} pins`)
      if (state === FREE && this.#owners[slot] !== 0) this.#refuse(slot, 'without an owner')
      if (state >= EVICTABLE && this.#owners[slot] === 0) this.#refuse(slot, 'owned')
    }
    if (counts.some((count, state) => count !== this.#counts[state]) || this.#free.count !== counts[FREE]) {
      misuse(`Tier ${this.#tier} counts ${this.#counts.join(', ')} slots by state; there are ${counts.join(', ')}.`)
    }
  }

  #enter(slot: number, before: number, after: number): void {
    this.#states[slot] = after
    this.#counts[before]!--
    this.#counts[after]!++
  }

  #expect(slot: number, state: number, asked: string): void {
    if (this.#states[slot] !== state) this.#refuse(slot, asked)
  }

  #refuse(slot: number, asked: string): never {
    const is = STATE_NAMES[this.#states[slot] ?? -1]
    misuse(
      `Slot ${slot} of tier ${this.#tier} was to be ${asked}; ${is === undefined ? this.#there() : `it is ${is}`}.`,
    )
  }

  #there(): string {
    return `there are ${this.slotCount} slots`
  }
}
