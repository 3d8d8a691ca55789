/**
 * Slots of owned device memory in the caller's hands: reserved ones that the engine fills, and onboarded ones that it
 * reads. They stay where they are until they are released.
 */
import { KvError } from '../errors.js'
import type { SequenceHashes } from '../identity/sequence-hashes.js'
import { NO_SLOT } from '../native/binding.js'
import { HASH_WORDS } from '../native/sizes.js'
import { DEVICE } from '../tiers/types.js'
import type { GroupTiers, MovementContext } from './context.js'
import { forgetDeviceCopies } from './device-state.js'

/** A hold on device slots that keeps their blocks from eviction; disposable. */
export interface DevicePin {
  /** Blocks held, from the first. */
  readonly blockCount: number
  /**
   * The device slots of a layer group, one a block.
   *
   * @param group - its name; may be left out when the model has one group
   * @throws KvError ERR_KV_RELEASED, ERR_KV_INVALID_VALUE (no such group)
   */
  slots(group?: string): Uint32Array
  /**
   * Gives the slots back, those that a transfer still uses when it has settled. Calling it again does nothing. From now on
   * any onboard may fill them: the engine's work with them has ended, or lies before the fence of every later onboard
   * (the stream that the engine works in, for example).
   */
  release(): void
  [Symbol.dispose](): void
}

/** Slots by group, and what a release does with them. */
export interface HeldSlots {
  readonly slots: readonly Uint32Array[]
  /** By group and block: the entry that is published in the slot and pinned once, or -1 while it is only reserved. */
  readonly entries: readonly Int32Array[]
  /** The sequence whose first blocks are in the slots; null while nothing is. */
  readonly hashes: SequenceHashes | null
}

/**
 * Device slots in the caller's hands. A slot holds one block: once an offload has named it as a block's, it is the block's
 * until the release. From `settled` on other requests read it as the block's device copy, so it must not be written until
 * then; to compute other blocks, reserve other slots.
 */
export class DeviceSlots implements DevicePin {
  readonly blockCount: number
  readonly #context: MovementContext
  readonly #groups: readonly GroupTiers[]
  readonly #slots: readonly Uint32Array[]
  readonly #entries: readonly Int32Array[]
  /** By position: the block whose slots they are, by its sequence and its number there; null while they are nobody's. */
  readonly #sequences: (SequenceHashes | null)[]
  readonly #numbers: Int32Array
  /** Positions that may hold other bytes than their block's. */
  readonly #distrusted = new Set<number>()
  #users = 0
  #released = false

  constructor(context: MovementContext, held: HeldSlots) {
    const { slots, entries, hashes } = held
    this.#context = context
    this.#groups = context.groups
    this.#slots = slots
    this.#entries = entries
    this.blockCount = slots[0]?.length ?? 0
    this.#sequences = Array.from({ length: this.blockCount }, () => hashes)
    this.#numbers = Int32Array.from({ length: this.blockCount }, (_, position) => position)
  }

  get released(): boolean {
    return this.#released
  }

  /** Whether they are slots of the manager that has these layer groups. */
  isOf(groups: readonly GroupTiers[]): boolean {
    return this.#groups === groups
  }

  /**
   * Says which blocks are in the slots: `count` of a sequence from `firstBlock` on, in the positions from `offset` on.
   *
   * @throws KvError ERR_KV_SLOT_REPEATED where a slot is another block's. That block's device copy may have been written
   * over, so it is a miss from now on, with what is behind it; nothing of the call is done
   */
  claim(offset: number, hashes: SequenceHashes, firstBlock: number, count: number): void {
    let other = -1
    for (let i = 0; i < count; i++) {
      if (this.#isOf(offset + i, hashes, firstBlock + i)) continue
      if (other < 0) other = i
      this.#distrust(offset + i)
    }
    if (other >= 0) {
      const position = offset + other
      throw new KvError(
        'ERR_KV_SLOT_REPEATED',
        `Block ${firstBlock + other} was named to be in position ${position} of a reservation, which holds block ` +
          `${this.#numbers[position]} of ${this.#sequences[position] === hashes ? 'the sequence' : 'another sequence'}. ` +
          'A slot holds one block until the release: name the position with `fromOffset`, or reserve other slots.',
      )
    }
    for (let i = 0; i < count; i++) {
      this.#sequences[offset + i] ??= hashes
      this.#numbers[offset + i] = firstBlock + i
    }
  }

  /** A transfer uses the slots until it calls the function that this returns: they are given to nobody before. */
  use(): () => void {
    this.#users++
    return () => {
      this.#users--
      if (this.#released && this.#users === 0) this.#giveBack()
    }
  }

  slots(group?: string): Uint32Array {
    if (this.#released)
      throw new KvError('ERR_KV_RELEASED', 'The slots of a device pin were asked for after its release.')
    if (group === undefined && this.#groups.length > 1) {
      const names = this.#groups.map((tiers) => tiers.group.name).join(', ')
      throw new KvError(
        'ERR_KV_INVALID_VALUE',
        `The model has several layer groups (${names}); name the one whose slots are asked for.`,
      )
    }
    const index = group === undefined ? 0 : this.#groups.findIndex((tiers) => tiers.group.name === group)
    const slots = this.#slots[index]
    if (slots === undefined)
      throw new KvError('ERR_KV_INVALID_VALUE', `There is no layer group ${JSON.stringify(group)}.`)
    return slots.slice()
  }

  /** The slots of a group by its number, without a copy; for movement only. */
  slotsOf(index: number): Uint32Array {
    return this.#slots[index] ?? new Uint32Array()
  }

  /** Publishes a slot as `entry`'s device copy, where it has none; the slot stays in the caller's hands. */
  adopt(index: number, position: number, entry: number): void {
    const tiers = this.#groups[index]
    const slot = this.#slots[index]?.[position] ?? NO_SLOT
    const entries = this.#entries[index]
    if (this.#released || tiers === undefined || slot === NO_SLOT || entries === undefined) return
    if (this.#distrusted.has(position) || this.#context.device.failure !== null) return
    if (entries[position] !== -1 || tiers.blocks.slotOf(entry, DEVICE) >= 0) return
    tiers.blocks.assign(entry, DEVICE, slot)
    if (!tiers.blocks.publish(entry, DEVICE)) {
      // The block cannot be used; the slot goes back to being only reserved.
      tiers.blocks.unassign(entry, DEVICE)
      return
    }
    tiers.blocks.pin(entry, DEVICE)
    entries[position] = entry
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    if (this.#users === 0) this.#giveBack()
  }

  [Symbol.dispose](): void {
    this.release()
  }

  /** Whether a position is nobody's, or that very block's. */
  #isOf(position: number, hashes: SequenceHashes, block: number): boolean {
    const sequence = this.#sequences[position] ?? null
    const number = this.#numbers[position] ?? 0
    if (sequence === null || (sequence === hashes && number === block)) return true
    hashes.hashBlocks()
    sequence.hashBlocks()
    const ours = sequence.words.subarray(number * HASH_WORDS, (number + 1) * HASH_WORDS)
    return ours.every((word, at) => word === hashes.words[block * HASH_WORDS + at])
  }

  /** The bytes in a position may be those of another block now: nobody is to be given them. */
  #distrust(position: number): void {
    const { counters, events, mistakes } = this.#context
    mistakes.overwritten++
    this.#distrusted.add(position)
    for (const tiers of this.#groups) {
      const entry = this.#entries[tiers.index]?.[position] ?? -1
      if (entry < 0 || tiers.blocks.isLost(entry)) continue
      const blocks = tiers.blocks.drop(entry)
      counters.lost += blocks
      events.emit('lost', { tier: 'device', blocks, group: tiers.group.name, reason: 'ERR_KV_SLOT_REPEATED' })
    }
  }

  #giveBack(): void {
    for (const tiers of this.#groups) {
      const slots = this.#slots[tiers.index] ?? new Uint32Array()
      const entries = this.#entries[tiers.index] ?? new Int32Array()
      for (let i = 0; i < slots.length; i++) {
        const entry = entries[i] ?? -1
        const slot = slots[i] ?? NO_SLOT
        if (entry >= 0) tiers.blocks.unpin(entry, DEVICE)
        else if (slot !== NO_SLOT) tiers.blocks.giveBack(DEVICE, slot)
      }
    }
    forgetDeviceCopies(this.#context)
  }
}
