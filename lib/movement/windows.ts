/**
 * Windows on host slots: one slot's bytes each, without a copy. Several holders may look into one slot; it is one window,
 * which is detached when the last of them lets go.
 *
 * A window's buffer can be transferred away (`ArrayBuffer.prototype.transfer`, Node.js 22 and later): then its bytes are
 * in a buffer that cannot be found or detached. The rule for such a slot: it is never used again while the manager is
 * open. Whoever holds the window is told which slots these are when it lets go, and takes them out of use.
 */
import { isKvError, KvError } from '../errors.js'
import type { Binding } from '../native/binding.js'
import { HOST } from '../tiers/types.js'
import { type GroupTiers, storageOf } from './context.js'

/** What outcomes and errors say of a block whose window was transferred away. */
export const TRANSFERRED_AWAY =
  'The window was transferred away; its slot is out of use until the manager is closed. Copy the bytes instead.'

interface OpenWindow {
  readonly buffer: ArrayBuffer
  holders: number
  /** Somebody takes the slot out of use already. */
  reported: boolean
}

/** A slot of a layer group. */
export interface HostSlot {
  readonly tiers: GroupTiers
  readonly slot: number
}

function keyOf({ tiers, slot }: HostSlot): string {
  return `${tiers.index}/${slot}`
}

/** Whether something else than {@link WindowTable} detached the window: one of ours has the bytes of a block. */
function isTransferred(buffer: ArrayBuffer): boolean {
  return buffer.byteLength === 0
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
  hold(at: HostSlot): ArrayBuffer {
    const key = keyOf(at)
    const window = this.#open.get(key) ?? {
      buffer: this.#binding.openWindow(storageOf(at.tiers, HOST), at.slot),
      holders: 0,
      reported: false,
    }
    window.holders++
    this.#open.set(key, window)
    return window.buffer
  }

  /**
   * Takes a holder away; the last one detaches the window.
   *
   * @returns true, for one holder, when the window was transferred away: it must take the slot out of use
   */
  letGo(at: HostSlot): boolean {
    const key = keyOf(at)
    const window = this.#open.get(key)
    if (window === undefined) return false
    const mustReport = !window.reported && isTransferred(window.buffer)
    window.reported ||= mustReport
    if (--window.holders > 0) return mustReport
    this.#open.delete(key)
    try {
      this.#binding.closeWindow(window.buffer)
    } catch (error) {
      if (!window.reported || !isKvError(error) || error.code !== 'ERR_KV_DETACHED_ARRAY') throw error
    }
    return mustReport
  }
}

/** The windows of one holder. */
export class Windows {
  readonly #table: WindowTable
  readonly #mine = new Map<string, HostSlot & { readonly buffer: ArrayBuffer }>()

  constructor(table: WindowTable) {
    this.#table = table
  }

  /**
   * A slot's bytes; the same window when it is asked for again.
   *
   * @throws KvError ERR_KV_DETACHED_ARRAY when the window was transferred away
   */
  open(tiers: GroupTiers, slot: number): Uint8Array {
    const at = { tiers, slot }
    const key = keyOf(at)
    const buffer = this.#mine.get(key)?.buffer ?? this.#table.hold(at)
    this.#mine.set(key, { ...at, buffer })
    if (isTransferred(buffer)) throw new KvError('ERR_KV_DETACHED_ARRAY', TRANSFERRED_AWAY)
    return new Uint8Array(buffer, 0, tiers.blockBytes)
  }

  /** Detaches what nobody else holds; the slots that were transferred away, for this holder to take out of use. */
  closeAll(): HostSlot[] {
    const mine = [...this.#mine.values()]
    this.#mine.clear()
    return mine.filter((at) => this.#table.letGo(at))
  }
}
