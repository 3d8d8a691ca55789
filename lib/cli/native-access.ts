/**
 * The few native calls that the command makes itself, as promises. Loaded at the first use, so that help works without an
 * addon; an interface, so that tests work without one.
 */
import type { GroupShape, OpenedSlab, ProbeResult, SlabContents, StorageHandle } from '../native/binding.js'

/** A slab opened for looking only. */
export interface InspectedSlab {
  readonly storage: StorageHandle
  readonly contents: SlabContents
  readonly shape: GroupShape
  readonly slotCount: number
}

/** What the command asks of the addon. */
export interface CliNative {
  /** What this machine and the directory offer. */
  probe(directory: string): Promise<ProbeResult>
  /**
   * Reads a table of a store directory; nothing is written, no lock is taken.
   *
   * @throws KvError ERR_KV_NOT_A_STORE, ERR_KV_NOT_A_DIRECTORY, ERR_KV_IO
   */
  inspectSlab(directory: string, group: number): Promise<InspectedSlab>
  /**
   * Reads blocks and compares their bytes with their records.
   *
   * @param hashes - 32 bytes a slot
   * @returns one number a slot, an index into the code list; 0 = the bytes are those that were stored
   */
  checkSlots(storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): Promise<Uint8Array>
  /** Gives an inspected slab back. */
  close(storage: StorageHandle): Promise<void>
}

const BYTES_IN_FLIGHT = 8 * 1024 * 1024
const QUEUE_BLOCKS = 65_536

/**
 * Loads the addon and starts its engine.
 *
 * @throws KvError ERR_KV_ADDON_MISSING
 */
export async function openNative(): Promise<CliNative> {
  const { binding, NO_SLOT } = await import('../native/binding.js')
  const { completions } = await import('../native/completions.js')
  const { startBatch } = await import('../movement/native-batch.js')
  const done = completions()
  binding.openEngine({
    threads: 0,
    readBytesInFlight: BYTES_IN_FLIGHT,
    writeBytesInFlight: BYTES_IN_FLIGHT,
    queueBlocks: QUEUE_BLOCKS,
  })
  return {
    probe: (directory) => done.call<ProbeResult>((ticket) => binding.startProbe(ticket, directory)),
    inspectSlab: (directory, group) =>
      done.call<OpenedSlab>((ticket) => binding.startInspectSlab(ticket, directory, group)),
    async checkSlots(storage, slots, hashes) {
      const moves = new Uint32Array(slots.length * 3).fill(NO_SLOT)
      slots.forEach((slot, place) => {
        moves[place * 3] = slot
      })
      const request = {
        path: 'slabCheck',
        onboard: false,
        source: storage,
        via: null,
        target: storage,
        moves,
        hashes,
        parents: null,
        records: null,
      } as const
      const batch = startBatch(done, slots.length, (ticket) => binding.startTransfer(ticket, request))
      const { codes } = await batch.done
      await batch.settled
      return codes
    },
    close: (storage) => done.call<undefined>((ticket) => binding.startClose(ticket, storage)),
  }
}
