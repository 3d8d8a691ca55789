/** What suites must know of a kind of storage to hold it to the contract of all kinds. */
import type {
  GroupShape,
  LayoutKindName,
  SlabContents,
  StorageHandle,
  TransferPath,
} from '../../../lib/native/binding.ts'
import type { ErrorCode, STORAGE_KINDS } from '../../../lib/native/generated.ts'
import type { TierName } from '../../../lib/tiers/types.ts'

/** A way of blocks into a storage, or out of it. */
export interface Way {
  readonly path: TransferPath
  /** What the other end is: lent memory that lies so, host memory of the addon's own, or a slab. */
  readonly other: LayoutKindName | 'host' | 'slab'
  /** What the blocks pass: nothing, staging buffers, slots of host memory; or the storage itself is what they pass. */
  readonly via: 'none' | 'staging' | 'slots' | 'itself'
}

/** How a storage is to be opened. */
export interface Opening {
  /** A folder of its own; opened there again, a persistent kind finds what it held. */
  readonly place: string
  readonly shape: GroupShape
  readonly slotCount: number
  /** Whether blocks without a parent are found again (windows, states). */
  readonly keepOrphans: boolean
  /** Of the model; the same one unless a test says otherwise. */
  readonly fingerprint?: Uint8Array
  /** Number of the layer group; 0 unless a test says otherwise. */
  readonly group?: number
}

/** An open storage. */
export interface OpenedStorage {
  readonly storage: StorageHandle
  /** What a persistent kind found; null for the others. */
  readonly contents: SlabContents | null
  /** A slot's bytes in canonical order, looked at past the library; absent where nobody can. */
  readonly read?: (slot: number) => Uint8Array
  /** Changes one bit of a slot's byte past the library; absent where nobody can. */
  readonly flip?: (slot: number, byte: number) => void
  /** Closes it with all that it stands on; what is closed already stays closed. */
  readonly close: () => Promise<void>
}

/** An entry of the catalog. */
export interface StorageKind {
  /** Whom a failing test names. */
  readonly name: string
  /** As the addon calls it. */
  readonly kind: (typeof STORAGE_KINDS)[number]
  /** The tier that it serves. */
  readonly tier: TierName
  /** How it lies in memory; null where it lies elsewhere. */
  readonly layout: LayoutKindName | null
  readonly into: readonly Way[]
  readonly outOf: readonly Way[]
  /** The path that verifies slots where they are; null for kinds that are verified on the way back from elsewhere. */
  readonly check: TransferPath | null
  /** Whether it keeps its blocks, their records and checksums when it is closed. */
  readonly persistent: boolean
  /** Whether its own reads and writes pass the fault seam of test builds. */
  readonly canBeFaulted: boolean
  /** What opening says of more slots than the machine has room for; null where the caller brings the room. */
  readonly withoutRoom: ErrorCode | null
  readonly open: (opening: Opening) => Promise<OpenedStorage>
}

/** Whether blocks come back from a disk on this way, or go there: such a way can fail, and what comes back is verified. */
export function usesDisk(way: Way): boolean {
  return way.path !== 'memoryToMemory' && way.path !== 'memoryToMemoryChecked'
}

/** A way in words. */
export function nameOf(way: Way): string {
  const passing = { none: '', staging: ' through staging', slots: ' through host slots', itself: ' through itself' }
  return `${way.path} with ${way.other}${passing[way.via]}`
}
