/**
 * The few native calls that the command makes itself, as promises. Loaded at the first use, so that help works without an
 * addon; an interface, so that tests work without one.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { CopyStrategyName } from '../device-options.js'
import { isKvError, KvError } from '../errors.js'
import type {
  CopyFigures,
  GroupShape,
  OpenedSlab,
  ProbeResult,
  SlabContents,
  StorageHandle,
} from '../native/binding.js'
import { COPY_STRATEGIES } from '../native/generated.js'
import { RECORD_BYTES, TABLE_HEADER_BYTES } from '../native/sizes.js'
import { tableName } from './stores.js'

/** A slab opened for looking only. */
export interface InspectedSlab {
  readonly storage: StorageHandle
  readonly contents: SlabContents
  readonly shape: GroupShape
  /** Slots that the table's superblock names. */
  readonly slotCount: number
  /** Of these, how many the table is too short to have a record of; 0 unless somebody cut it. */
  readonly slotsMissing: number
}

/** What a way of copying reaches, for runs of one size. */
export interface MeasuredCopy {
  readonly strategy: CopyStrategyName
  readonly direction: 'to GPU' | 'from GPU'
  readonly runBytes: number
  readonly runs: number
  /** Billions of bytes a second. */
  readonly gbPerS: number
  /** Processor time of handing the copies to the driver, in microseconds. */
  readonly queueUs: number
}

/** One GPU's copies. */
export interface MeasuredGpu {
  readonly ordinal: number
  readonly name: string
  /** Whether the next process will find the choices; false where the user's cache folder cannot be written. */
  readonly kept: boolean
  readonly copies: readonly MeasuredCopy[]
  /** What measuring failed with, in one line; otherwise null. */
  readonly failure: string | null
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
  /**
   * Measures the copies of every GPU anew and keeps what block managers choose by. A GPU that fails does not stop the
   * others.
   *
   * @param onGpu - called before each GPU, with its number and how many there are; what it throws ends the measuring
   */
  measureCopies(onGpu: (ordinal: number, count: number) => void): Promise<MeasuredGpu[]>
  /** Gives an inspected slab back. */
  close(storage: StorageHandle): Promise<void>
}

/** How many of a table's slots lie behind its end. */
async function countMissing(path: string, slotCount: number): Promise<number> {
  const { size } = await stat(path).catch((error: Error) => {
    throw new KvError('ERR_KV_IO', `${path} cannot be looked at (${error.message}); run as its owner.`, {
      cause: error,
    })
  })
  return Math.max(0, slotCount - Math.max(0, Math.floor((size - TABLE_HEADER_BYTES) / RECORD_BYTES)))
}

function copiesOf({ cells, figures }: CopyFigures): MeasuredCopy[] {
  return Array.from({ length: cells.length / 4 }, (_, row) => {
    const [strategy = 0, towards, runBytes = 0, runs = 0] = cells.subarray(row * 4, row * 4 + 4)
    return {
      strategy: COPY_STRATEGIES[strategy] ?? 'single',
      direction: towards === 1 ? 'to GPU' : 'from GPU',
      runBytes,
      runs,
      gbPerS: figures[row * 2] ?? 0,
      queueUs: figures[row * 2 + 1] ?? 0,
    }
  })
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
  const { measureCopies } = await import('../tiers/calibration.js')
  const { cacheFolder } = await import('../tiers/choices-file.js')
  const { probeGpus } = await import('../tiers/cuda.js')
  const done = completions()
  binding.openEngine({
    threads: 0,
    readBytesInFlight: BYTES_IN_FLIGHT,
    writeBytesInFlight: BYTES_IN_FLIGHT,
    queueBlocks: QUEUE_BLOCKS,
  })
  return {
    probe: (directory) => done.call<ProbeResult>((ticket) => binding.startProbe(ticket, directory)),
    async inspectSlab(directory, group) {
      const slab = await done.call<OpenedSlab>((ticket) => binding.startInspectSlab(ticket, directory, group))
      try {
        const slotsMissing = await countMissing(join(directory, tableName(group)), slab.slotCount)
        return { ...slab, slotsMissing }
      } catch (error) {
        await done.call<undefined>((ticket) => binding.startClose(ticket, slab.storage))
        throw error
      }
    },
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
    async measureCopies(onGpu) {
      const gpus = await probeGpus(binding, done)
      const calibrating = { binding, completions: done, gpus, folder: cacheFolder() }
      const measured: MeasuredGpu[] = []
      for (const [ordinal, name] of gpus.devices.entries()) {
        onGpu(ordinal, gpus.devices.length)
        try {
          const { figures, stored } = await measureCopies(calibrating, ordinal)
          measured.push({ ordinal, name, kept: stored, copies: copiesOf(figures), failure: null })
        } catch (error) {
          if (!isKvError(error)) throw error
          measured.push({ ordinal, name, kept: false, copies: [], failure: error.message })
        }
      }
      return measured
    },
    close: (storage) => done.call<undefined>((ticket) => binding.startClose(ticket, storage)),
  }
}
