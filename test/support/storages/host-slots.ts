/**
 * Host memory of the addon's own at the other end of a way, as GPUs need it, with the face of {@link LentMemory}. What lies
 * between blocks is watched; what lies around all of them is the addon's.
 */
import { binding, type GroupShape, type StorageHandle } from '../../../lib/native/binding.ts'
import { closeQuietly } from './closing.ts'
import { blockBytesOf, type EndMemory, isAll, POISON } from './lent-memory.ts'
import { openMemory } from './memory.ts'

/** Slots of pageable host memory. */
export class HostSlots implements EndMemory {
  readonly storage: StorageHandle
  readonly #blockBytes: number
  readonly #slotCount: number

  private constructor(storage: StorageHandle, shape: GroupShape, slotCount: number) {
    this.storage = storage
    this.#blockBytes = blockBytesOf(shape)
    this.#slotCount = slotCount
  }

  static async open(shape: GroupShape, slotCount: number): Promise<HostSlots> {
    const slots = new HostSlots(await openMemory('contiguous', { shape, slotCount }), shape, slotCount)
    slots.poison()
    return slots
  }

  write(slot: number, bytes: Uint8Array): void {
    this.#look(slot, (all) => all.set(bytes))
  }

  read(slot: number): Uint8Array {
    return this.#look(slot, (all) => all.slice(0, this.#blockBytes))
  }

  flip(slot: number, byte: number): void {
    this.#look(slot, (all) => {
      all[byte]! ^= 0x10
    })
  }

  poison(): void {
    for (let slot = 0; slot < this.#slotCount; slot++) this.#look(slot, (all) => all.fill(POISON))
  }

  isPoisonBeside(slots: readonly number[]): boolean {
    const others = Array.from({ length: this.#slotCount }, (_, slot) => slot).filter((slot) => !slots.includes(slot))
    // Behind a block lies padding, which belongs to its slot.
    return others.every((slot) => isAll(POISON, this.read(slot)))
  }

  isWholeAround(): boolean {
    return true
  }

  async close(): Promise<void> {
    await closeQuietly(this.storage)
  }

  #look<T>(slot: number, use: (bytes: Uint8Array) => T): T {
    const window = binding.openWindow(this.storage, slot)
    try {
      return use(new Uint8Array(window))
    } finally {
      binding.closeWindow(window)
    }
  }
}
