/** The addon as the benchmarks use it beside the block manager: storages and batches of their own. */
import { type NativeBatch, startBatch } from '../../lib/movement/native-batch.js'
import {
  type Binding,
  binding,
  type GroupShape,
  type LayoutKindName,
  NO_SLOT,
  type StorageHandle,
  type TransferPath,
} from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { KiB, MiB } from '../../lib/options.js'

let opened = false

/** The addon with its engine started. */
export function openBinding(): Binding {
  if (!opened) {
    completions()
    binding.openEngine({ threads: 0, readBytesInFlight: 32 * MiB, writeBytesInFlight: 32 * MiB, queueBlocks: 64 * KiB })
    opened = true
  }
  return binding
}

/** Memory of our own with slots in it; with `pinFor` it is registered for that GPU's copies. */
export async function openMemory(
  kind: LayoutKindName,
  shape: GroupShape,
  slotCount: number,
  pinFor?: number,
): Promise<StorageHandle> {
  const native = openBinding()
  return await completions().call<StorageHandle>((ticket) =>
    native.startOpenMemory(ticket, kind, shape, slotCount, pinFor),
  )
}

/** Gives it back. */
export async function closeStorage(storage: StorageHandle): Promise<void> {
  await completions().call<undefined>((ticket) => binding.startClose(ticket, storage))
}

/** A batch that moves slot i of one storage to slot i of another. */
export class SlotBatch {
  readonly #count: number
  readonly #request: Parameters<Binding['startTransfer']>[1]

  constructor(path: TransferPath, source: StorageHandle, target: StorageHandle, count: number, firstSlot = 0) {
    const moves = new Uint32Array(count * 3)
    for (let i = 0; i < count; i++) moves.set([firstSlot + i, NO_SLOT, firstSlot + i], i * 3)
    const hashes = new Uint8Array(count * 32).map((_, at) => (at * 37) & 0xff)
    this.#count = count
    this.#request = { path, onboard: false, source, via: null, target, moves, hashes, parents: null, records: null }
  }

  /** Starts it; as often as wanted, one run after the other. */
  start(): NativeBatch {
    return startBatch(completions(), this.#count, (ticket) => binding.startTransfer(ticket, this.#request))
  }

  /** Runs it to its end and checks that every block arrived. */
  async run(): Promise<void> {
    const batch = this.start()
    const { codes, message } = await batch.done
    await batch.settled
    if (codes.some((code) => code !== 0)) throw new Error(`A block of a benchmark's batch failed: ${message}`)
  }
}
