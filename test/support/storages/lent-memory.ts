/**
 * Memory of the test's own, lent to the addon as slots: written and read here with arithmetic of its own, so that a mistake
 * in native layouts cannot hide behind the same mistake on the way back. What lies around each region is watched.
 */
import { binding, type GroupShape, type LayoutKindName, type StorageHandle } from '../../../lib/native/binding.ts'
import { closeQuietly } from './closing.ts'

const MARGIN_BYTES = 128
const MARGIN = 0xc5
/** What no block is full of. */
export const POISON = 0xee

/** Bytes of one block. */
export function blockBytesOf(shape: GroupShape): number {
  return shape.parts * shape.layers * shape.outer * shape.tokensPerBlock * shape.bytesPerToken
}

/** Bytes that a slot of contiguous memory or of a slab takes. */
export function strideOf(shape: GroupShape): number {
  return Math.ceil(blockBytesOf(shape) / 4096) * 4096
}

/** Memory at the other end of a way, which a test writes and reads past the library. */
export interface EndMemory {
  readonly storage: StorageHandle
  write(slot: number, bytes: Uint8Array): void
  read(slot: number): Uint8Array
  flip(slot: number, byte: number): void
  poison(): void
  isPoisonBeside(slots: readonly number[]): boolean
  isWholeAround(): boolean
  close(): Promise<void>
}

/** Whether every byte is the same as the one before it, and the first is `value`. */
export function isAll(value: number, bytes: Uint8Array): boolean {
  return bytes[0] === value && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0
}

interface Run {
  readonly region: number
  readonly offset: number
  /** Where the run begins in canonical order. */
  readonly at: number
  readonly length: number
}

/** Slots in arrays of the test. */
export class LentMemory implements EndMemory {
  readonly storage: StorageHandle
  readonly #kind: LayoutKindName
  readonly #shape: GroupShape
  readonly #slotCount: number
  readonly #regions: readonly Uint8Array[]

  constructor(kind: LayoutKindName, shape: GroupShape, slotCount: number) {
    this.#kind = kind
    this.#shape = shape
    this.#slotCount = slotCount
    const regionCount = kind === 'contiguous' ? 1 : shape.parts * shape.layers
    const slotBytes = kind === 'contiguous' ? strideOf(shape) : blockBytesOf(shape) / regionCount
    this.#regions = Array.from({ length: regionCount }, () => {
      const around = new Uint8Array(slotCount * slotBytes + 2 * MARGIN_BYTES).fill(MARGIN)
      return around.subarray(MARGIN_BYTES, around.length - MARGIN_BYTES)
    })
    this.poison()
    this.storage = binding.borrowMemory(kind, shape, slotCount, this.#regions)
  }

  /** Puts a block's bytes, in canonical order (part, layer, K or V, token), where the layout says. */
  write(slot: number, bytes: Uint8Array): void {
    for (const run of this.#runs(slot)) {
      this.#regions[run.region]!.set(bytes.subarray(run.at, run.at + run.length), run.offset)
    }
  }

  /** A slot's bytes in canonical order. */
  read(slot: number): Uint8Array {
    const bytes = new Uint8Array(blockBytesOf(this.#shape))
    for (const run of this.#runs(slot)) {
      bytes.set(this.#regions[run.region]!.subarray(run.offset, run.offset + run.length), run.at)
    }
    return bytes
  }

  /** Changes one bit of the slot's byte, counted in canonical order. */
  flip(slot: number, byte: number): void {
    const bytes = this.read(slot)
    bytes[byte]! ^= 0x10
    this.write(slot, bytes)
  }

  /** Makes every slot hold what no block holds. */
  poison(): void {
    for (const region of this.#regions) region.fill(POISON)
  }

  /** Whether every slot but these holds poison alone; makes these poison too. */
  isPoisonBeside(slots: readonly number[]): boolean {
    const block = new Uint8Array(blockBytesOf(this.#shape)).fill(POISON)
    for (const slot of slots) this.write(slot, block)
    if (this.#kind !== 'contiguous') return this.#regions.every((region) => isAll(POISON, region))
    // Between slots lies padding, which belongs to the slot before it.
    const starts = Array.from({ length: this.#slotCount }, (_, slot) => slot * strideOf(this.#shape))
    return starts.every((at) => isAll(POISON, this.#regions[0]!.subarray(at, at + block.length)))
  }

  /** Whether nobody wrote beside a region. */
  isWholeAround(): boolean {
    return this.#regions.every((region) => {
      const around = new Uint8Array(region.buffer)
      const margins = [around.subarray(0, MARGIN_BYTES), around.subarray(around.length - MARGIN_BYTES)]
      return margins.every((margin) => isAll(MARGIN, margin))
    })
  }

  async close(): Promise<void> {
    await closeQuietly(this.storage)
  }

  *#runs(slot: number): Generator<Run> {
    const { outer } = this.#shape
    if (this.#kind === 'contiguous') {
      yield { region: 0, offset: slot * strideOf(this.#shape), at: 0, length: blockBytesOf(this.#shape) }
      return
    }
    const length = this.#shape.tokensPerBlock * this.#shape.bytesPerToken
    for (const region of this.#regions.keys()) {
      for (let kv = 0; kv < outer; kv++) {
        const place = this.#kind === 'layersKvInner' ? slot * outer + kv : kv * this.#slotCount + slot
        yield { region, offset: place * length, at: (region * outer + kv) * length, length }
      }
    }
  }
}
