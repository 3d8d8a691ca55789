/**
 * An engine's own slots on a simulated GPU for the model test: what it writes and spoils runs in its stream, late, so that
 * a transfer that does not wait for its fence, or goes on after it has settled, moves wrong bytes.
 */
import type { BorrowedCudaDevice } from '../../lib/device-options.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import { type Fence, fence } from '../../lib/movement/fence.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { sim, untilIdle } from '../support/sim-engine.ts'

const GROUP = 'full'
const SPOILED = 0x5a

/** Device memory of one layer group, and who uses which of its slots. */
export class EngineSlots {
  readonly #memory: CudaMemory
  readonly #stream: bigint
  readonly #free: number[]

  constructor(layout: ModelLayout, slots: number) {
    this.#memory = new CudaMemory(layout, 'layersKvInner', slots)
    this.#stream = sim.makeStream(0)
    this.#free = Array.from({ length: slots }, (_, slot) => slot)
  }

  /** What the manager borrows. */
  get device(): BorrowedCudaDevice {
    return this.#memory.device
  }

  /** Runs with slots that nothing uses, and frees them when the stream is idle; does nothing where too few are free. */
  async use(count: number, run: (slots: Uint32Array) => Promise<void>): Promise<void> {
    if (this.#free.length < count) return
    const slots = Uint32Array.from(this.#free.splice(0, count))
    try {
      await run(slots)
    } finally {
      await untilIdle(this.#stream)
      this.#free.push(...slots)
    }
  }

  /** Queues copies of blocks from slots to others. */
  copy(from: Uint32Array, to: Uint32Array): Fence {
    for (const [i, slot] of from.entries()) {
      const sources = this.#memory.runs(GROUP, slot)
      for (const [run, target] of this.#memory.runs(GROUP, to[i] ?? 0).entries()) {
        sim.copy(0, this.#stream, target.pointer, sources[run]?.pointer ?? 0n, target.length)
      }
    }
    return fence.stream(this.#stream)
  }

  /** Queues writes of other bytes. */
  spoil(slots: Uint32Array): Fence {
    for (const slot of slots) this.#memory.fillIn(this.#stream, GROUP, slot, SPOILED)
    return fence.stream(this.#stream)
  }

  /** Gives everything back. */
  free(): void {
    sim.destroyStream(0, this.#stream)
    this.#memory.free()
  }
}
