/**
 * One open storage of any kind, with ways to put blocks into it and get them out, and to look at every byte. Every block
 * has bytes and a hash of its own, by number.
 */
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'

import {
  binding,
  NO_SLOT,
  RECORD_WORDS,
  type StorageHandle,
  type TransferRequest,
} from '../../../lib/native/binding.ts'
import {
  ARRIVED,
  all,
  type BatchReport,
  hashesOf,
  numbers,
  type Outcome,
  openEngine,
  runBatch,
  temporaryFolder,
} from '../../native-binding/harness.ts'
import { bytesOf } from '../borrowed.ts'
import { Ends, type Placed, recordsOf } from './ends.ts'
import { nameOf, type OpenedStorage, type Opening, type StorageKind, usesDisk, type Way } from './kind.ts'
import { blockBytesOf } from './lent-memory.ts'
import type { Form } from './shapes.ts'

export type { Placed } from './ends.ts'

/** A block that was asked for: what was said of it, and what came. */
export interface Taken {
  readonly outcome: Outcome
  readonly bytes: Uint8Array
}

/** Blocks that stand in slots for which a test has no use yet. */
const GUARD = 5000
/** Blocks that lie at the other end before anything is taken there. */
const JUNK = 9000

/** Blocks' bytes by size and number: making them takes longer than moving them. */
const made = new Map<string, Uint8Array>()

/** Runs a request to its end. */
export async function transfer(request: TransferRequest): Promise<BatchReport> {
  return await runBatch((ticket) => binding.startTransfer(ticket, request))
}

/** A request for each block of a request. */
export function split(request: TransferRequest): TransferRequest[] {
  const { moves, hashes, parents, records } = request
  return numbers(moves.length / 3).map((i) => ({
    ...request,
    moves: moves.slice(i * 3, (i + 1) * 3),
    hashes: hashes.slice(i * 32, (i + 1) * 32),
    parents: parents?.slice(i * 32, (i + 1) * 32) ?? null,
    records: records?.slice(i * RECORD_WORDS, (i + 1) * RECORD_WORDS) ?? null,
  }))
}

/** A storage under test. */
export class Bench {
  readonly kind: StorageKind
  readonly form: Form
  readonly opened: OpenedStorage
  readonly #place: string
  readonly #ends: Ends
  /** Slots that keep the checksum of what they hold. */
  readonly #sealed = new Set<number>()

  private constructor(kind: StorageKind, form: Form, opened: OpenedStorage, place: string) {
    this.kind = kind
    this.form = form
    this.opened = opened
    this.#place = place
    this.#ends = new Ends(form, join(place, 'other'))
  }

  /** Opens a storage of a kind, empty unless the opening says where it was before; closed after the test. */
  static async open(kind: StorageKind, form: Form, opening: Partial<Opening> = {}): Promise<Bench> {
    openEngine()
    const place = opening.place ?? temporaryFolder()
    const opened = await kind.open({ place, ...form, ...opening })
    const bench = new Bench(kind, form, opened, place)
    onTestFinished(() => bench.close())
    return bench
  }

  get storage(): StorageHandle {
    return this.opened.storage
  }

  /** Closes everything that the test has not closed. */
  async close(): Promise<void> {
    await this.opened.close()
    await this.#ends.close()
  }

  /** The same storage, closed and opened again. */
  async reopen(opening: Partial<Opening> = {}): Promise<Bench> {
    await this.close()
    return await Bench.open(this.kind, this.form, { place: this.#place, ...opening })
  }

  /** The bytes that a block must have everywhere. */
  bytesOf(block: number): Uint8Array {
    const size = blockBytesOf(this.form.shape)
    const known = made.get(`${size} ${block}`)
    if (known !== undefined) return known
    const bytes = bytesOf(block, size)
    made.set(`${size} ${block}`, bytes)
    return bytes
  }

  /** Blocks from `first` on, in every slot. */
  everySlot(first: number): Placed[] {
    return numbers(this.form.slotCount).map((slot) => ({ slot, block: first + slot }))
  }

  /** Fills every slot with blocks that no test stores, so that whatever changes one of them shows. */
  async fill(): Promise<Placed[]> {
    const guards = this.everySlot(GUARD)
    await this.put(this.kind.into.at(-1)!, guards)
    return guards
  }

  /** Stores blocks; all must arrive. */
  async put(way: Way, placed: readonly Placed[]): Promise<void> {
    const report = await transfer(await this.putRequest(way, placed))
    expect(report, nameOf(way)).toMatchObject({ code: 'OK', message: '', outcomes: all(placed.length, ARRIVED) })
  }

  /** Gets blocks out and tells what became of each. */
  async take(way: Way, placed: readonly Placed[]): Promise<Taken[]> {
    return await this.takeBy(await this.takeRequest(way, placed), way, placed)
  }

  /** The same by a request that a test has changed. */
  async takeBy(request: TransferRequest, way: Way, placed: readonly Placed[]): Promise<Taken[]> {
    return await this.collect(way, placed, request, await transfer(request))
  }

  /** Gets blocks out; all must come, with their bytes. */
  async expectHolds(placed: readonly Placed[], ways: readonly Way[] = this.kind.outOf): Promise<void> {
    for (const way of ways) {
      this.expectTaken(placed, await this.take(way, placed), all(placed.length, ARRIVED), nameOf(way))
    }
    if (this.opened.read === undefined) return
    for (const { slot, block } of placed) {
      expect(this.#isRight(block, this.opened.read(slot)), `slot ${slot}, looked at: block ${block}`).toBe(true)
    }
  }

  /** Of blocks that were asked for, these became that, and those that came have their bytes. */
  expectTaken(placed: readonly Placed[], taken: readonly Taken[], outcomes: readonly Outcome[], how: string): void {
    expect(
      taken.map(({ outcome }) => outcome),
      how,
    ).toEqual(outcomes)
    this.expectRight(placed, taken, how)
  }

  /** Of blocks that were asked for, those that came have their bytes. */
  expectRight(placed: readonly Placed[], taken: readonly Taken[], how: string): void {
    for (const [i, { slot, block }] of placed.entries()) {
      if (taken[i]!.outcome.code !== 'OK') continue
      expect(this.#isRight(block, taken[i]!.bytes), `slot ${slot}, ${how}: block ${block}`).toBe(true)
    }
  }

  /** Of a request that was refused or ended in time, nothing is at the other end. */
  async expectNothingCame(way: Way, placed: readonly Placed[], request: TransferRequest): Promise<void> {
    const taken = await this.collect(way, placed, request, { outcomes: all(placed.length, ARRIVED) })
    for (const [i, { block }] of placed.entries()) {
      expect(this.#isRight(block, taken[i]!.bytes), `${nameOf(way)}: block ${block}`).toBe(false)
    }
  }

  /** A request of either direction. */
  async request(way: Way, goesIn: boolean, placed: readonly Placed[]): Promise<TransferRequest> {
    return await (goesIn ? this.putRequest(way, placed) : this.takeRequest(way, placed))
  }

  /** A request that stores blocks, with the blocks waiting at the other end. */
  async putRequest(way: Way, placed: readonly Placed[]): Promise<TransferRequest> {
    const there = this.#otherSlots(placed)
    await this.#ends.place(way.other, there, (block) => this.bytesOf(block))
    for (const { slot } of placed) {
      if (way.path === 'memoryToMemory') this.#sealed.delete(slot)
      else this.#sealed.add(slot)
    }
    const source = await this.#ends.storage(way.other)
    if (way.via !== 'itself') return await this.#request(way, source, this.storage, there, placed)
    const beyond = (await this.#ends.lent('layersKvInner')).storage
    return { ...(await this.#request(way, source, beyond, there, there)), via: this.storage, ...passing(there, placed) }
  }

  /** A request that gets blocks out to where nothing is like them. */
  async takeRequest(way: Way, placed: readonly Placed[]): Promise<TransferRequest> {
    const there = this.#otherSlots(placed)
    if (way.path === 'memoryToSlab') {
      const unsealed = placed.filter(({ slot }) => !this.#sealed.has(slot))
      await this.#ends.seal(this.storage, unsealed)
    }
    const junk = there.map(({ slot }) => ({ slot, block: JUNK + slot }))
    if (way.other === 'slab') await this.#ends.place('slab', junk, (block) => this.bytesOf(block))
    const lent = await this.#ends.lent(way.other)
    lent.poison()
    return await this.#request(way, this.storage, await this.#ends.storage(way.other), placed, there)
  }

  /** What came of a request that got blocks out; from a slab at the other end it is read back, under the same hashes. */
  async collect(
    way: Way,
    placed: readonly Placed[],
    { hashes }: TransferRequest,
    report: Pick<BatchReport, 'outcomes'>,
  ): Promise<Taken[]> {
    const there = this.#otherSlots(placed)
    const lent = await this.#ends.lent(way.other)
    let { outcomes } = report
    if (way.other === 'slab') {
      const back = await this.#ends.move('slabToMemory', await this.#ends.slab(), lent.storage, there, hashes)
      outcomes = outcomes.map((outcome, i) => (outcome.code === 'OK' ? back.outcomes[i]! : outcome))
    }
    const taken = there.map(({ slot }, i) => ({ outcome: outcomes[i]!, bytes: lent.read(slot) }))
    const isApart = lent.isWholeAround() && lent.isPoisonBeside(there.map(({ slot }) => slot))
    expect(isApart, `${nameOf(way)} writes into its slots alone`).toBe(true)
    return taken
  }

  /** A slab like the one at the other end of some ways. */
  async otherSlab(): Promise<StorageHandle> {
    return await this.#ends.slab()
  }

  /** Verifies slots where they are. */
  async check(placed: readonly Placed[]): Promise<readonly Outcome[]> {
    return (await this.#ends.move(this.kind.check!, this.storage, this.storage, placed)).outcomes
  }

  /** Changes one bit of a slot; a checksum that is kept stays what it was. */
  async flip({ slot, block }: Placed, byte: number): Promise<void> {
    if (this.opened.flip !== undefined) return this.opened.flip(slot, byte)
    const memory = await this.#ends.lent('contiguous')
    memory.write(slot, this.bytesOf(block))
    memory.flip(slot, byte)
    await this.#ends.move('memoryToMemory', memory.storage, this.storage, [{ slot, block }])
  }

  #isRight(block: number, bytes: Uint8Array): boolean {
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).equals(this.bytesOf(block))
  }

  /** The same blocks in other slots, in the opposite order. */
  #otherSlots(placed: readonly Placed[]): Placed[] {
    const { slotCount } = this.form
    return placed.map(({ block }, i) => ({ slot: (placed[0]!.slot + 2 * slotCount - 1 - i) % slotCount, block }))
  }

  async #request(
    way: Way,
    source: StorageHandle,
    target: StorageHandle,
    from: readonly Placed[],
    to: readonly Placed[],
  ): Promise<TransferRequest> {
    const passes = way.via === 'slots'
    const there = source === this.storage ? to : from
    // Every third block passes staging all the same.
    const via = (i: number): number => (passes && i % 3 !== 2 ? there[i]!.slot : NO_SLOT)
    return {
      path: way.path,
      onboard: usesDisk(way) && way.path !== 'memoryToSlab',
      source,
      via: passes ? await this.#ends.hostSlots() : null,
      target,
      moves: Uint32Array.from(from.flatMap(({ slot }, i) => [slot, via(i), to[i]!.slot])),
      hashes: hashesOf(from.map(({ block }) => block)),
      ...recordsOf(way.path, from.length),
    }
  }
}

/** Moves of blocks between slots of the same numbers, through others. */
function passing(ends: readonly Placed[], between: readonly Placed[]): Pick<TransferRequest, 'moves'> {
  return { moves: Uint32Array.from(ends.flatMap(({ slot }, i) => [slot, between[i]!.slot, slot])) }
}
