/**
 * Slots of owned device memory in the caller's hands: reserved ones that the engine fills, and onboarded ones that it
 * reads. They stay where they are until they are released.
 */
import { KvError } from '../errors.js'
import { DEVICE } from '../tiers/types.js'
import type { GroupTiers, MovementContext } from './context.js'

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
  /** Gives the slots back, those that a transfer still uses when it has settled. Calling it again does nothing. */
  release(): void
  [Symbol.dispose](): void
}

/** Slots by group, and what a release does with them. */
export class DeviceSlots implements DevicePin {
  readonly blockCount: number
  readonly #groups: readonly GroupTiers[]
  readonly #slots: readonly Uint32Array[]
  /** By group and block: the entry that was published in the slot, or -1 while the slot is only reserved. */
  readonly #entries: readonly Int32Array[]
  #users = 0
  #released = false

  /** Takes over slots that are `filling` (entry -1) or pinned once (entry set). */
  constructor(context: MovementContext, slots: readonly Uint32Array[], entries: readonly Int32Array[]) {
    this.#groups = context.groups
    this.#slots = slots
    this.#entries = entries
    this.blockCount = slots[0]?.length ?? 0
  }

  get released(): boolean {
    return this.#released
  }

  /** Whether they are slots of the manager that has these layer groups. */
  isOf(groups: readonly GroupTiers[]): boolean {
    return this.#groups === groups
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

  entriesOf(index: number): Int32Array {
    return this.#entries[index] ?? new Int32Array()
  }

  /** Publishes reserved slots as `entry`'s device copy, where it has none; the slot stays in the caller's hands. */
  adopt(index: number, position: number, entry: number): void {
    const tiers = this.#groups[index]
    const slot = this.#slots[index]?.[position]
    const entries = this.#entries[index]
    if (this.#released || tiers === undefined || slot === undefined || entries === undefined) return
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

  #giveBack(): void {
    for (const tiers of this.#groups) {
      const slots = this.#slots[tiers.index] ?? new Uint32Array()
      const entries = this.#entries[tiers.index] ?? new Int32Array()
      for (let i = 0; i < slots.length; i++) {
        const entry = entries[i] ?? -1
        if (entry >= 0) tiers.blocks.unpin(entry, DEVICE)
        else if ((slots[i] ?? 0) !== 0xffffffff) tiers.blocks.giveBack(DEVICE, slots[i] ?? 0)
      }
    }
  }

  [Symbol.dispose](): void {
    this.release()
  }
}
