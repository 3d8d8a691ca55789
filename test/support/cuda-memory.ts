/**
 * An engine's own memory on the simulated GPUs, lent to kvtier: written and read here past every stream, with arithmetic
 * of its own. Its streams are the tests'.
 */
import type { BorrowedCudaDevice, CudaPointerRegion } from '../../lib/device-options.ts'
import { groupShapeOf, type ModelLayout } from '../../lib/identity/model-layout.ts'
import type { GroupShape, LayoutKindName } from '../../lib/native/binding.ts'
import { blockBytesOf, type Run, regionBytesOf, runsOf } from './borrowed.ts'
import { sim } from './sim-engine.ts'

/** A region of the engine's memory. */
export type EngineRegion = Required<CudaPointerRegion> & { readonly pointer: bigint }

/** Device memory of every layer group of a model. */
export class CudaMemory {
  readonly device: Omit<BorrowedCudaDevice, 'regions'> & { readonly regions: Readonly<Record<string, EngineRegion[]>> }
  readonly #layout: ModelLayout
  readonly #kind: LayoutKindName

  /** @param ordinals - a GPU, or one a part (not for `contiguous`) */
  constructor(layout: ModelLayout, kind: LayoutKindName, slots: number, ordinals: readonly number[] = [0]) {
    this.#layout = layout
    this.#kind = kind
    const regions: Record<string, EngineRegion[]> = {}
    for (const group of layout.groups) {
      const shape = groupShapeOf(group, layout.tokensPerBlock)
      regions[group.name] = regionBytesOf(shape, kind, slots).map((bytes, i) => {
        const ordinal = ordinals[Math.floor(i / shape.layers) % ordinals.length] ?? 0
        return { pointer: sim.allocate(ordinal, bytes), bytes, ordinal }
      })
    }
    this.device = { kind: 'cuda', slots, layout: kind, regions, strategies: { measure: 'never' } }
  }

  /** Puts a block's bytes, in canonical order (part, layer, K or V, token), where the layout says. */
  write(group: string, slot: number, bytes: Uint8Array): void {
    for (const run of this.runs(group, slot)) sim.write(run.pointer, bytes.subarray(run.at, run.at + run.length))
  }

  /** A block's bytes in canonical order. */
  read(group: string, slot: number): Uint8Array {
    const bytes = new Uint8Array(this.blockBytes(group))
    for (const run of this.runs(group, slot)) bytes.set(sim.read(run.pointer, run.length), run.at)
    return bytes
  }

  /** Bytes of one block of a group. */
  blockBytes(group: string): number {
    return blockBytesOf(this.#shape(group))
  }

  /** The runs of a slot, where they are and in which GPU's memory. */
  runs(group: string, slot: number): (Run & { readonly pointer: bigint; readonly ordinal: number })[] {
    const runs = [...runsOf(this.#shape(group), this.#kind, this.device.slots, slot)]
    return runs.map((run) => {
      const region = this.device.regions[group]?.[run.region]
      if (region === undefined) throw new Error(`there is no region ${run.region} of ${group}`)
      return { ...run, pointer: region.pointer + BigInt(run.offset), ordinal: region.ordinal }
    })
  }

  /** Queues a fill of a whole slot in a stream, as a kernel of the engine would write it. */
  fillIn(stream: bigint, group: string, slot: number, value: number): void {
    for (const { pointer, ordinal, length } of this.runs(group, slot)) sim.fill(ordinal, stream, pointer, value, length)
  }

  /** Gives the memory back. */
  free(): void {
    for (const regions of Object.values(this.device.regions)) {
      for (const { pointer, ordinal } of regions) sim.free(ordinal, pointer)
    }
  }

  #shape(group: string): GroupShape {
    const found = this.#layout.groups.find((each) => each.name === group)
    if (found === undefined) throw new Error(`there is no layer group ${group}`)
    return groupShapeOf(found, this.#layout.tokensPerBlock)
  }
}
