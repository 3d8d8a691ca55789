/**
 * Windows on host slots: one slot's bytes each, without a copy. Several holders may look into one slot; it is one window,
 * which is detached when the last of them lets go.
 */
import type { Binding } from '../native/binding.js'
import { HOST } from '../tiers/types.js'
import { type GroupTiers, storageOf } from './context.js'

interface OpenWindow {
  readonly buffer: ArrayBuffer
  holders: number
}

function keyOf(tiers: GroupTiers, slot: number): string {
  return `${tiers.index}/${slot}`
}

/** The windows that are open, of one manager. */
export class WindowTable {
  readonly #binding: Binding
  /** By layer group and slot. */
  readonly #open = new Map<string, OpenWindow>()

  constructor(binding: Binding) {
    this.#binding = binding
  }

  /** Adds a holder to the window on a slot, which is opened where it was not. */
  hold(tiers: GroupTiers, slot: number): ArrayBuffer {
    const key = keyOf(tiers, slot)
    const window = this.#open.get(key) ?? { buffer: this.#binding.openWindow(storageOf(tiers, HOST), slot), holders: 0 }
    window.holders++
    this.#open.set(key, window)
    return window.buffer
  }

  /** Takes a holder away; the last one detaches the window. */
  letGo(key: string): void {
    const window = this.#open.get(key)
    if (window === undefined || --window.holders > 0) return
    this.#open.delete(key)
    this.#binding.closeWindow(window.buffer)
  }
}

/** The windows of one holder. */
export class Windows {
  readonly #table: WindowTable
  readonly #mine = new Map<string, ArrayBuffer>()

  constructor(table: WindowTable) {
    this.#table = table
  }

  /** A slot's bytes; the same window when it is asked for again. */
  open(tiers: GroupTiers, slot: number): Uint8Array {
    const key = keyOf(tiers, slot)
    const buffer = this.#mine.get(key) ?? this.#table.hold(tiers, slot)
    this.#mine.set(key, buffer)
    return new Uint8Array(buffer, 0, tiers.blockBytes)
  }

  closeAll(): void {
    for (const key of this.#mine.keys()) this.#table.letGo(key)
    this.#mine.clear()
  }
}
