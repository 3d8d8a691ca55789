/**
 * An engine's own memory, lent to kvtier: written and read here byte by byte with arithmetic of its own, so that a
 * mistake in native layouts cannot hide behind the same mistake on the way back.
 */

import type { BorrowedDevice } from '../../lib/device-options.ts'
import { groupShapeOf, type LayerGroup, type ModelLayout } from '../../lib/identity/model-layout.ts'
import type { GroupShape, LayoutKindName } from '../../lib/native/binding.ts'

/** `size` bytes that depend on `seed` alone. */
export function bytesOf(seed: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  let state = (seed * 2_654_435_761 + 12_345) >>> 0 || 1
  for (let i = 0; i < size; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[i] = state & 0xff
  }
  return bytes
}

/** Bytes of one block. */
export function blockBytesOf(shape: GroupShape): number {
  return shape.parts * shape.layers * shape.outer * shape.tokensPerBlock * shape.bytesPerToken
}

/** Bytes of each region that `slots` blocks of a layout need. */
export function regionBytesOf(shape: GroupShape, kind: LayoutKindName, slots: number): number[] {
  if (kind === 'contiguous') return [slots * strideOf(shape)]
  const layerBytes = shape.outer * shape.tokensPerBlock * shape.bytesPerToken
  return Array.from({ length: shape.parts * shape.layers }, () => slots * layerBytes)
}

/** A run of a block's bytes in canonical order: from byte `at` on, in a region. */
export interface Run {
  readonly region: number
  readonly offset: number
  readonly at: number
  readonly length: number
}

/** Where the bytes of a slot lie. */
export function* runsOf(shape: GroupShape, kind: LayoutKindName, slots: number, slot: number): Generator<Run> {
  if (kind === 'contiguous') {
    yield { region: 0, offset: slot * strideOf(shape), at: 0, length: blockBytesOf(shape) }
    return
  }
  const run = shape.tokensPerBlock * shape.bytesPerToken
  let at = 0
  for (let region = 0; region < shape.parts * shape.layers; region++) {
    for (let kv = 0; kv < shape.outer; kv++) {
      const number = kind === 'layersKvInner' ? slot * shape.outer + kv : kv * slots + slot
      yield { region, offset: number * run, at, length: run }
      at += run
    }
  }
}

function strideOf(shape: GroupShape): number {
  return Math.ceil(blockBytesOf(shape) / 4096) * 4096
}

/** Device memory of every layer group of a model. */
export class BorrowedMemory {
  readonly device: BorrowedDevice & { readonly regions: Readonly<Record<string, Uint8Array[]>> }
  readonly #layout: ModelLayout
  readonly #kind: LayoutKindName

  constructor(layout: ModelLayout, kind: LayoutKindName, slots: number) {
    this.#layout = layout
    this.#kind = kind
    const regions: Record<string, Uint8Array[]> = {}
    for (const group of layout.groups) {
      const shape = groupShapeOf(group, layout.tokensPerBlock)
      regions[group.name] = regionBytesOf(shape, kind, slots).map((bytes) => new Uint8Array(bytes))
    }
    this.device = { kind: 'host', slots, layout: kind, regions }
  }

  /** Bytes of one block of a group. */
  blockBytes(group: string): number {
    return blockBytesOf(this.#shape(group))
  }

  /** Puts a block's bytes, in canonical order (part, layer, K or V, token), where the layout says. */
  write(group: string, slot: number, bytes: Uint8Array): void {
    for (const { region, offset, at, length } of runsOf(this.#shape(group), this.#kind, this.device.slots, slot)) {
      this.#region(group, region).set(bytes.subarray(at, at + length), offset)
    }
  }

  /** A block's bytes in canonical order. */
  read(group: string, slot: number): Uint8Array {
    const bytes = new Uint8Array(this.blockBytes(group))
    for (const { region, offset, at, length } of runsOf(this.#shape(group), this.#kind, this.device.slots, slot)) {
      bytes.set(this.#region(group, region).subarray(offset, offset + length), at)
    }
    return bytes
  }

  /** Every byte of every region becomes `value`. */
  fill(value: number): void {
    for (const regions of Object.values(this.device.regions)) for (const region of regions) region.fill(value)
  }

  #region(group: string, region: number): Uint8Array {
    const found = this.device.regions[group]?.[region]
    if (found === undefined) throw new Error(`there is no region ${region} of ${group}`)
    return found
  }

  #shape(group: string): GroupShape {
    const found = this.#layout.groups.find((each: LayerGroup) => each.name === group)
    if (found === undefined) throw new Error(`there is no layer group ${group}`)
    return groupShapeOf(found, this.#layout.tokensPerBlock)
  }
}
