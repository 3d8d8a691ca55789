/**
 * Held blocks in host memory for the caller to read, through windows of one block each.
 */
import { invalidValue, KvError } from '../errors.js'
import { HOST } from '../tiers/types.js'
import { type GroupTiers, groupNamed, type MovementContext } from './context.js'
import type { HeldSlots } from './host-reservation.js'
import type { ActiveTransfers } from './sequence.js'
import { TransferControl, type TransferResult } from './transfer.js'
import { type HostSlot, Windows, type WindowTable } from './windows.js'

/** Blocks held in host memory for the caller to read. */
export class HostReading {
  /** The outcome of the load: `tokens` is how much of the prompt can be read. */
  readonly result: TransferResult
  readonly #context: MovementContext
  readonly #windows: Windows
  readonly #entries: readonly Int32Array[]
  readonly #active: ActiveTransfers
  readonly #end: () => void
  #over = false
  #uses = 0
  #endLater = false

  /** @internal */
  constructor(
    context: MovementContext,
    result: TransferResult,
    entries: readonly Int32Array[],
    windows: WindowTable,
    active: ActiveTransfers,
    end: () => void,
  ) {
    this.#context = context
    this.#windows = new Windows(windows)
    this.#entries = entries
    this.#active = active
    this.#end = end
    this.result = result
  }

  /**
   * The bytes of block `index` in canonical order. Not to be written. Detached when the reading is released, or, where
   * other readings look into the same block, with the last of them. Its buffer must not be transferred away
   * (`ArrayBuffer.prototype.transfer`): such a block is lost with what follows it, and its slot is out of use until the
   * manager is closed.
   *
   * @throws KvError ERR_KV_RELEASED; ERR_KV_INVALID_VALUE when the load did not bring the block; ERR_KV_DETACHED_ARRAY
   * when its window was transferred away
   */
  window(index: number, group?: string): Uint8Array {
    if (this.#over) throw new KvError('ERR_KV_RELEASED', 'The reading was released before.')
    const tiers = groupNamed(this.#context, group)
    const entry = this.#entries[tiers.index]?.[index] ?? -1
    if (entry < 0 || this.result.code(index) !== 'OK') invalidValue('index', 'a block that the load brought', index)
    return this.#windows.open(tiers, tiers.blocks.slotOf(entry, HOST))
  }

  /**
   * Has native code read the blocks that the load brought, group by group. They stay held until `work` has ended, also
   * where the manager is closed meanwhile. A group's positions have no gap, end with the last block of `result.tokens`, and
   * cover what the group needs for that prefix.
   *
   * @internal
   * @throws KvError ERR_KV_RELEASED; what `work` threw
   */
  async use<T>(work: (held: readonly HeldSlots[]) => Promise<T>): Promise<T> {
    if (this.#over) throw new KvError('ERR_KV_RELEASED', 'The reading was released before.')
    const forget = this.#active.add(new TransferControl(this.#context.completions, {}, 0))
    this.#uses++
    try {
      return await work(this.#context.groups.map((tiers) => this.#held(tiers)))
    } finally {
      this.#uses--
      if (this.#endLater && this.#uses === 0) this.#end()
      forget()
    }
  }

  /**
   * A block's bytes were found wrong: it is lost, with what is behind it.
   *
   * @internal
   */
  lose(tiers: GroupTiers, position: number): void {
    const entry = this.#entries[tiers.index]?.[position] ?? -1
    if (entry < 0 || !tiers.blocks.holds(entry, HOST)) return
    const lost = tiers.blocks.drop(entry)
    const { counters, events } = this.#context
    counters.lost += lost
    events.emit('lost', { tier: 'host', blocks: lost, group: tiers.group.name, reason: 'ERR_KV_CHECKSUM' })
  }

  #held(tiers: GroupTiers): HeldSlots {
    const entries = this.#entries[tiers.index] ?? new Int32Array()
    const blocks = Math.floor(this.result.tokens / this.#context.tokensPerBlock)
    const positions = [...entries.keys()].filter((i) => i < blocks && (entries[i] ?? -1) >= 0)
    return { tiers, positions, slots: Uint32Array.from(positions, (i) => tiers.blocks.slotOf(entries[i] ?? -1, HOST)) }
  }

  /** Detaches the windows and lets the blocks be evicted again. */
  release(): void {
    if (this.#over) return
    this.#over = true
    const isFree = this.#windows.closeAll().map((at) => this.#takeOutOfUse(at))
    if (!isFree.every(Boolean)) return
    if (this.#uses > 0) this.#endLater = true
    else this.#end()
  }

  /**
   * Into a slot whose window was transferred away somebody may still write: nothing is found there any more, and a pin
   * that never ends keeps it from being used again.
   *
   * @returns false when the block was lost before and only the reading's own pins are left: then those must not end
   */
  #takeOutOfUse({ tiers, slot }: HostSlot): boolean {
    const { blocks } = tiers
    const entry = blocks.entryAt(HOST, slot)
    if (!blocks.holds(entry, HOST)) return false
    blocks.pin(entry, HOST)
    const lost = blocks.drop(entry)
    const { counters, events } = this.#context
    counters.lost += lost
    events.emit('lost', { tier: 'host', blocks: lost, group: tiers.group.name, reason: 'ERR_KV_DETACHED_ARRAY' })
    return true
  }

  [Symbol.dispose](): void {
    this.release()
  }
}
