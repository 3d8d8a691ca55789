/**
 * Which slots of borrowed device memory a transfer uses now. The engine accounts those slots; kvtier only keeps two
 * transfers from touching one slot at the same time, where one of them writes it.
 */
import { invalidType, KvError } from '../errors.js'

const WRITING = 0xffff

/** Marks by slot: how many transfers read it, or that one writes it. */
export class BorrowedSlots {
  readonly #marks: Uint16Array
  /** By slot: the last call that named it. */
  readonly #namedBy: Float64Array
  readonly #name: string
  #calls = 0

  constructor(slotCount: number, name: string) {
    this.#marks = new Uint16Array(slotCount)
    this.#namedBy = new Float64Array(slotCount)
    this.#name = name
  }

  /**
   * Checks slots that a caller named and marks them as in use.
   *
   * @param slots - slot numbers
   * @param writes - whether the transfer overwrites them
   * @returns a function that takes the marks away
   * @throws KvError ERR_KV_SLOT_OUT_OF_RANGE, ERR_KV_SLOT_REPEATED (twice in the call, or used by a transfer that has not
   *   settled)
   */
  take(slots: Uint32Array, writes: boolean): () => void {
    const marks = this.#marks
    const call = ++this.#calls
    const taken: number[] = []
    const giveBack = (): void => {
      for (const slot of taken) marks[slot] = writes ? 0 : (marks[slot] ?? 1) - 1
      taken.length = 0
    }
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i] ?? 0
      const mark = marks[slot]
      if (mark === undefined) {
        giveBack()
        throw new KvError(
          'ERR_KV_SLOT_OUT_OF_RANGE',
          `Slot ${slot} of layer group ${this.#name} was named at position ${i}; it has slots 0 to ${marks.length - 1}.`,
        )
      }
      const twice = this.#namedBy[slot] === call
      if (twice || mark === WRITING || (writes && mark > 0)) {
        giveBack()
        throw new KvError(
          'ERR_KV_SLOT_REPEATED',
          twice
            ? `Slot ${slot} of layer group ${this.#name} is named twice; every block needs a slot of its own.`
            : `Slot ${slot} of layer group ${this.#name} is still in use by a transfer; wait for its \`settled\`.`,
        )
      }
      marks[slot] = writes ? WRITING : mark + 1
      this.#namedBy[slot] = call
      taken.push(slot)
    }
    return giveBack
  }
}

/** The caller's slots as a copy of their own; `name` says which argument they came from. */
export function slotArray(name: string, value: unknown): Uint32Array {
  if (!(value instanceof Uint32Array)) invalidType(name, 'a Uint32Array of slots', value)
  if (isDetached(value)) {
    throw new KvError('ERR_KV_DETACHED_ARRAY', `${name} is a detached array; pass it before its buffer is transferred.`)
  }
  return value.slice()
}

/** Whether a typed array's buffer was transferred away. Works where `ArrayBuffer.prototype.detached` is not there yet. */
export function isDetached(array: Uint32Array): boolean {
  if (array.byteLength > 0) return false
  try {
    return new Uint8Array(array.buffer, 0, 0).length !== 0
  } catch {
    return true
  }
}
