/**
 * What stands at the other ends of a storage's ways: memory of the test's own in every layout, a slab, and host slots to
 * pass. Opened when they are first needed.
 */
import { expect } from 'vitest'

import {
  binding,
  type LayoutKindName,
  NO_SLOT,
  RECORD_WORDS,
  type StorageHandle,
  type TransferPath,
  type TransferRequest,
} from '../../../lib/native/binding.ts'
import { ARRIVED, all, type BatchReport, close, hashesOf, runBatch } from '../../native-binding/harness.ts'
import { HostSlots } from './host-slots.ts'
import type { OpenedStorage, Way } from './kind.ts'
import { type EndMemory, LentMemory } from './lent-memory.ts'
import { openMemory } from './memory.ts'
import type { Form } from './shapes.ts'
import { openSlab } from './slab.ts'

/** A block in a slot. */
export interface Placed {
  readonly slot: number
  readonly block: number
}

/** Parents and records of blocks of which nothing but the bytes matters; null for a path that takes none. */
export function recordsOf(path: TransferPath, count: number): Pick<TransferRequest, 'parents' | 'records'> {
  if (path !== 'memoryToSlab') return { parents: null, records: null }
  return { parents: new Uint8Array(count * 32), records: new Uint32Array(count * RECORD_WORDS) }
}

/** The other ends, all of one form. */
export class Ends {
  readonly #form: Form
  readonly #place: string
  readonly #lent = new Map<LayoutKindName | 'host', EndMemory>()
  #slab: OpenedStorage | null = null
  #hostSlots: StorageHandle | null = null

  /** @param place - a folder for the slab */
  constructor(form: Form, place: string) {
    this.#form = form
    this.#place = place
  }

  /** Gives everything back; what is needed after that is opened anew. */
  async close(): Promise<void> {
    await this.#slab?.close()
    for (const memory of this.#lent.values()) await memory.close()
    if (this.#hostSlots !== null) await close(this.#hostSlots)
    this.#slab = null
    this.#hostSlots = null
    this.#lent.clear()
  }

  /** The memory at the other end, or before a slab there. */
  async lent(other: Way['other']): Promise<EndMemory> {
    const { shape, slotCount } = this.#form
    const layout = other === 'slab' ? 'contiguous' : other
    const known = this.#lent.get(layout)
    if (known !== undefined) return known
    const memory = layout === 'host' ? await HostSlots.open(shape, slotCount) : new LentMemory(layout, shape, slotCount)
    this.#lent.set(layout, memory)
    return memory
  }

  async slab(): Promise<StorageHandle> {
    this.#slab ??= await openSlab({ place: this.#place, ...this.#form })
    return this.#slab.storage
  }

  async hostSlots(): Promise<StorageHandle> {
    this.#hostSlots ??= await openMemory('contiguous', this.#form)
    return this.#hostSlots
  }

  /** Makes the checksums of blocks that stand in memory. */
  async seal(storage: StorageHandle, placed: readonly Placed[]): Promise<void> {
    if (placed.length === 0) return
    const slots = Uint32Array.from(placed, ({ slot }) => slot)
    const hashes = hashesOf(placed.map(({ block }) => block))
    const report = await runBatch((ticket) => binding.startSeal(ticket, storage, slots, hashes))
    expect(report.outcomes).toEqual(all(placed.length, ARRIVED))
  }

  /** Moves blocks between slots of the same numbers. */
  async move(
    path: TransferPath,
    source: StorageHandle,
    target: StorageHandle,
    placed: readonly Placed[],
    hashes: Uint8Array = hashesOf(placed.map(({ block }) => block)),
  ): Promise<BatchReport> {
    const moves = Uint32Array.from(placed.flatMap(({ slot }) => [slot, NO_SLOT, slot]))
    const request = { path, onboard: true, source, via: null, target, moves, hashes }
    return await runBatch((ticket) => binding.startTransfer(ticket, { ...request, ...recordsOf(path, placed.length) }))
  }

  /** Puts blocks at an end, where nothing of them was. */
  async place(other: Way['other'], placed: readonly Placed[], bytesOf: (block: number) => Uint8Array): Promise<void> {
    const lent = await this.lent(other)
    for (const { slot, block } of placed) lent.write(slot, bytesOf(block))
    await this.seal(lent.storage, placed)
    if (other === 'slab') await this.move('memoryToSlab', lent.storage, await this.slab(), placed)
  }

  /** The end's slots. */
  async storage(other: Way['other']): Promise<StorageHandle> {
    return other === 'slab' ? await this.slab() : (await this.lent(other)).storage
  }
}
