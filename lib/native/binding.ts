/**
 * The seam: everything the native addon offers, typed. `native/binding/addon.cc` mounts the same names in the same
 * order. Nothing here decides anything.
 *
 * Rules of the seam:
 * - Calls that may take longer than a few microseconds are *started* with a ticket and report through the completion
 *   words (see {@link BindingSettings}); every started call reports exactly once (a transfer: `done`, then `settled`).
 *   A call that throws synchronously reports never.
 * - Started calls that are no transfers throw ERR_KV_QUEUE_FULL while 16,384 of an environment have not ended; closing
 *   is always taken.
 * - Typed arrays passed to a started call are read before it returns, unless it says otherwise.
 * - Hashes are 32 bytes each, packed in a `Uint8Array`. Handles are opaque and type-tagged: a wrong one throws
 *   ERR_KV_INVALID_TYPE, a closed one ERR_KV_CLOSED. A storage handle that is collected without {@link Binding.startClose}
 *   closes its storage once its transfers have ended.
 * - Arguments of a wrong shape throw: ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE, ERR_KV_DETACHED_ARRAY,
 *   ERR_KV_SLOT_OUT_OF_RANGE, ERR_KV_SLOT_REPEATED. Whatever is passed, the process does not crash.
 */
import type { ImageEngine, ImageHandle, ImageSectionKind, ImageSource } from './image-binding.js'
import { loadAddon } from './load-addon.js'
import type { DiskToDevice, SlabContents } from './slab-reports.js'
import type { TestingBinding } from './testing-binding.js'

export type * from './image-binding.js'
export type * from './slab-reports.js'
export type { FaultProfile, TestingBinding } from './testing-binding.js'

declare const tag: unique symbol
/** Slots of one tier for one layer group: memory, borrowed memory or a slab. */
export interface StorageHandle {
  readonly [tag]: 'storage'
}
/** An open (locked) disk-tier directory of one fingerprint. */
export interface StoreHandle {
  readonly [tag]: 'store'
}

/** What device work must wait for: a point in an engine's stream, taken when the handle was made. */
export interface FenceHandle {
  readonly [tag]: 'fence'
}
/** Events of a transfer towards a GPU, one a device and layer. */
export interface ReadyHandle {
  readonly [tag]: 'ready'
}

/** The shape of one layer group's KV in bytes (native/layout/group_shape.h). */
export interface GroupShape {
  readonly parts: number
  readonly layers: number
  readonly outer: number
  readonly tokensPerBlock: number
  readonly bytesPerToken: number
}

/** How device memory lies: one region, or one region a part and layer with K and V outside or inside the slot. */
export type LayoutKindName = 'contiguous' | 'layersKvOuter' | 'layersKvInner'

/** What an environment hands to the addon once. */
export interface BindingSettings {
  /** Makes the error that the addon throws: `KvError`. */
  readonly makeError: (code: string, message: string) => Error
  /**
   * Memory the addon writes completions into before it calls `settle`. One record after the other:
   * `[ticket, phase, code, count, ...ceil(count / 2) words of outcomes]`. `phase`: bit 0 = done (outcomes follow), bit 1 =
   * settled, bit 2 = ready (see {@link TransferRequest.ready}). `code` is the index of the call's own status in the generated code list. An outcome is 16 bits, low half
   * first: `code | stage << 8`, stage 0 = nothing holds the block, 1 = neither, for a GPU failed on the way, 2 = the target holds it.
   *
   * At least 64 words. A transfer may have `(length - 4) * 2` blocks, and never more than LIMITS.maxBlocksPerTransfer.
   * Its buffer must stay attached and must not be resizable. When it is detached all the same, an uncaught exception
   * (ERR_KV_DETACHED_ARRAY) says so, what was started never reports, and nothing can be started any more.
   */
  readonly completions: Uint32Array
  /**
   * Called on the JavaScript thread with the number of words that hold records. While it runs, results and messages of
   * the tickets in them can be taken; afterwards they are gone. Must not throw: what it throws is an uncaught exception.
   */
  readonly settle: (wordCount: number) => void
}

/** Result of `startOpenSlab`. */
export interface OpenedSlab {
  readonly storage: StorageHandle
  readonly contents: SlabContents
  readonly shape: GroupShape
  /** Slots that the superblock names. One that is looked at only may have been cut, and has fewer. */
  readonly slotCount: number
  /** Whether O_DIRECT is in use. */
  readonly direct: boolean
  /** Whether blocks go directly from the slab to the device memory that was named; null: none was. */
  readonly toDevice: DiskToDevice | null
}

/** Result of `startOpenStore`. */
export interface OpenedStore {
  readonly store: StoreHandle
  /** The store's own directory, below the root. */
  readonly path: string
  /** 32 random bytes kept beside the stores: the default key of tenant salts. */
  readonly secret: Uint8Array
}

/**
 * Device memory, one entry a region: GPU ordinals, addresses and sizes. Regions come in the order of the layout (one, or
 * one a part and layer, part-major); with several GPUs a contiguous layout has one region a part.
 */
export interface DeviceRanges {
  readonly ordinals: Uint32Array
  readonly addresses: BigUint64Array
  readonly bytes: Float64Array
}

/** The same as another process can open it: `handles` has 64 bytes a region, `uuids` name the GPUs. */
export interface SharedRanges {
  /** The process that owns the memory. */
  readonly owner: number
  readonly uuids: readonly string[]
  readonly handles: Uint8Array
  readonly offsets: Float64Array
  readonly bytes: Float64Array
}

/** What a GPU's copies reach, by strategy, direction, run size and number of runs; see native/transfer/device/calibrate.h. */
export interface CopyFigures {
  /** One row of words after the other: strategy, towards the GPU (1) or away (0), run bytes, runs. */
  readonly cells: Uint32Array
  /** Two numbers a row: GB/s (1e9 bytes), and CPU microseconds of queuing it. */
  readonly figures: Float64Array
  /** The strategy to take by direction (away, towards), size bucket and count bucket. */
  readonly choices: Uint8Array
}

/** Where an engine's stream, event or memory is, as {@link Binding.readExternal} finds it in an External. */
export interface ExternalPointer {
  readonly kind: 'memory' | 'stream' | 'event'
  readonly address: bigint
  /** Of memory; 0 otherwise. */
  readonly bytes: number
  /** The GPU, -1 where the other addon does not say. */
  readonly ordinal: number
}

/** Engine settings of one environment; threads are shared by all environments of the process. */
export interface EngineOptions {
  /**
   * I/O and copy threads, 3 to 64; fewer are taken for 3. 0 = by processor count, between 4 and 10. One disk keeps at most
   * all but two of them busy, all disks together all but one, so that a disk that hangs stops nothing else. The wish of
   * the environment that starts the engine counts.
   */
  readonly threads: number
  /**
   * Bytes of reads that may be in flight at each disk, and of copies towards the GPU; a single larger operation runs alone.
   */
  readonly readBytesInFlight: number
  /**
   * Bytes of writes that may be in flight at each disk, and of copies away from the GPU; a single larger operation runs
   * alone.
   */
  readonly writeBytesInFlight: number
  /** Blocks that may be in flight before a transfer is refused with ERR_KV_QUEUE_FULL. */
  readonly queueBlocks: number
}

/**
 * Where a transfer's bytes go. The names say from which kind of storage to which. 'Memory' is host memory or a GPU's: of
 * a copy one side may be a GPU's (the other then is contiguous host memory), or both.
 */
export type TransferPath =
  | 'memoryToMemory' /** gather, scatter or copy; no checksum is made or checked */
  | 'memoryToMemoryChecked' /** the same, and the target keeps the checksum made in the same pass */
  | 'memoryToSlab' /** payload and record; the checksum is the one the source keeps */
  | 'slabToMemory' /** read and verified in the target */
  | 'slabToMemoryVia' /** read into the via slot (or a staging buffer), verified, copied to the target */
  | 'slabCheck' /** read into a staging buffer and verified; nothing is kept (target is ignored) */

/** `via` slot that means: use one of the engine's own staging buffers. Also "no slot" wherever a slot is optional. */
export const NO_SLOT = 0xffffffff

/** Words of one block in {@link TransferRequest.records}. */
export const RECORD_WORDS = 5

/**
 * A batch of blocks between two storages of the same shape, at most LIMITS.maxBlocksPerTransfer. No slot may be written
 * twice, or read and written, in one batch.
 */
export interface TransferRequest {
  readonly path: TransferPath
  /** Onboarding (towards the GPU) goes first in the queues. */
  readonly onboard: boolean
  readonly source: StorageHandle
  /** slabToMemoryVia only: contiguous memory; its slots keep the blocks and their checksums. */
  readonly via: StorageHandle | null
  readonly target: StorageHandle
  /** Three words a block: source slot, via slot (or NO_SLOT), target slot. */
  readonly moves: Uint32Array
  /** 32 bytes a block. */
  readonly hashes: Uint8Array
  /** memoryToSlab: parents' hashes, 32 bytes a block, zero for a first block. */
  readonly parents: Uint8Array | null
  /** memoryToSlab: RECORD_WORDS a block: depth, tenant tag, priority, expires at (s), last use (s). */
  readonly records: Uint32Array | null
  /** Work of the GPU that the transfer's copies wait for, in the GPU's own queues (default: none). */
  readonly after?: readonly FenceHandle[] | undefined
  /**
   * To a GPU's memory only: the transfer queues its copies a layer at a time where the layout allows, and records these
   * events; it reports phase bit 2 when all are recorded and every block is verified and on its way, before `done`. Where
   * some block is not it never does.
   */
  readonly ready?: ReadyHandle | null | undefined
}

/** What a machine offers and lacks; printed by `kvtier doctor`. Every `*Reason` is empty when the thing is there. */
export interface ProbeResult {
  readonly cpu: { readonly name: string; readonly count: number; readonly checksum: string; readonly copy: string }
  /** `availableBytes` is null where the system does not say; `memlockBytes` is Infinity where there is no limit. */
  readonly memory: {
    readonly totalBytes: number
    readonly availableBytes: number | null
    readonly memlockBytes: number
  }
  readonly hugePages: { readonly mode: string; readonly ok: boolean; readonly reason: string }
  readonly numa: { readonly nodes: number; readonly reason: string }
  readonly cuda: {
    readonly available: boolean
    readonly reason: string
    /** 'ready' when available; else what is wrong, in a word: 'absent', 'too-old', 'no-device', 'not-ready' … */
    readonly state: string
    readonly driverVersion: string
    /** Names, by ordinal. */
    readonly devices: readonly string[]
    /** The same devices; `uuid` and `pciAddress` are empty where the driver does not say. */
    readonly deviceDetails: readonly {
      readonly memoryBytes: number
      readonly computeCapability: string
      readonly uuid: string
      readonly pciAddress: string
    }[]
  }
  readonly cufile: { readonly available: boolean; readonly reason: string }
  readonly ioUring: { readonly available: boolean; readonly reason: string }
  readonly sha256: { readonly available: boolean; readonly reason: string }
  /** null when no directory was asked about. */
  readonly directory: {
    readonly path: string
    readonly exists: boolean
    readonly writable: boolean
    readonly fileSystem: string
    readonly freeBytes: number
    readonly direct: boolean
    readonly reason: string
  } | null
}

/** The addon's surface. Names and order are those of `native/binding/addon.cc`. */
export interface Binding {
  /** JSON text from which `lib/native/generated.ts` is printed. */
  describe(): string
  /** Once an environment, before anything else but `describe`, `canHashTokens` and `hashTokens`. */
  initialize(settings: BindingSettings): void
  /**
   * Takes this environment's share of the engine; the first one in the process starts its threads. Called again, it raises
   * this environment's limits to the larger of both wishes.
   */
  openEngine(options: EngineOptions): void

  /**
   * Result: StorageHandle. Allocates and touches the memory on an engine thread. With `pinFor`, a GPU's ordinal, the
   * memory is also registered with the driver for that GPU's copies: a first part before it reports, the rest behind it.
   */
  startOpenMemory(ticket: number, kind: LayoutKindName, shape: GroupShape, slotCount: number, pinFor?: number): void
  /**
   * Borrows the caller's memory as slots. The arrays are kept referenced until the storage is closed; they must not be of
   * resizable buffers. Detaching one meanwhile is the caller's fault: the next transfer throws ERR_KV_DETACHED_ARRAY, but
   * one that runs then goes on with the memory.
   */
  borrowMemory(
    kind: LayoutKindName,
    shape: GroupShape,
    slotCount: number,
    regions: readonly Uint8Array[],
  ): StorageHandle
  /**
   * Result: StorageHandle of a GPU's memory, allocated. `ordinals` has one GPU, or one a part of the shape. Throws
   * ERR_KV_UNSUPPORTED without a usable driver.
   */
  startOpenDevice(
    ticket: number,
    ordinals: Uint32Array,
    kind: LayoutKindName,
    shape: GroupShape,
    slotCount: number,
  ): void
  /**
   * Result: StorageHandle of a GPU's memory that an engine of this process owns and keeps until the storage is closed.
   * Every transfer looks whether the allocations are still there and throws ERR_KV_INVALID_VALUE where they are not.
   */
  startBorrowDevice(
    ticket: number,
    kind: LayoutKindName,
    shape: GroupShape,
    slotCount: number,
    ranges: DeviceRanges,
  ): void
  /**
   * The same for memory of another process. `handles` has an entry a region: 64 bytes, or what PyTorch gives; `ordinals`
   * are this process's, `owner` is the lender's pid (0: not known), whose end is then seen before it does harm.
   */
  startImportDevice(
    ticket: number,
    kind: LayoutKindName,
    shape: GroupShape,
    slotCount: number,
    ordinals: Uint32Array,
    handles: readonly Uint8Array[],
    offsets: Float64Array,
    bytes: Float64Array,
    owner?: number,
  ): void
  /** Where a storage's device memory is. */
  deviceRanges(storage: StorageHandle): DeviceRanges
  /** How another process opens it. Throws ERR_KV_UNSUPPORTED where the driver cannot share it. */
  shareDevice(storage: StorageHandle): SharedRanges
  /** What another addon handed over (native/include/kvtier.h). Throws ERR_KV_INVALID_TYPE for anything else. */
  readExternal(value: unknown): ExternalPointer
  /**
   * A point that device work can wait for: what an event marks now, what is queued in a stream now (`source` is its
   * address), or what an event of another process marks (`source` is its handle of 64 bytes). The event or stream need not
   * outlive the call.
   */
  makeFence(ordinal: number, kind: 'event' | 'stream' | 'ipc', source: bigint | Uint8Array): FenceHandle
  /** Events for one transfer into that storage of a GPU's memory. */
  makeReady(storage: StorageHandle): ReadyHandle
  /** Addresses of the events, device by device, one a layer, for cuStreamWaitEvent; they live as long as the handle. */
  readyEvents(ready: ReadyHandle): BigUint64Array
  /** Result: CopyFigures. */
  startMeasureDevice(ticket: number, ordinal: number): void
  /**
   * Which strategy copies of that GPU take (empty: what suits most GPUs); `forbidden` has a bit a strategy. Counts for the
   * whole process, as long as device memory of that GPU is open.
   */
  setDeviceChoices(ordinal: number, choices: Uint8Array, forbidden: number): void
  /** Result: OpenedStore. */
  startOpenStore(ticket: number, root: string, fingerprint: Uint8Array): void
  /**
   * Result: OpenedSlab; opens, preallocates and recovers. With `directFor`, a GPU's contiguous memory, it is tried whether
   * blocks can go directly between the two (cuFile), before transfers use that memory, and which loads are faster that way
   * (`directAlways`: that is not asked): these then go directly where they have no via slot.
   */
  startOpenSlab(
    ticket: number,
    store: StoreHandle,
    group: number,
    shape: GroupShape,
    slotCount: number,
    direct: boolean,
    keepOrphans: boolean,
    directFor?: StorageHandle | null,
    directAlways?: boolean,
  ): void
  /** Result: OpenedSlab, for looking only. `directory` holds the tables. */
  startInspectSlab(ticket: number, directory: string, group: number): void
  /**
   * Refuses new transfers at once, detaches the storage's windows, and cancels what is queued with ERR_KV_CLOSED; reports
   * when nothing touches the storage any more and its files are closed. A store is closed after its slabs (their closing
   * may still be under way): reports when the lock on its directory is released. Throws ERR_KV_INVALID_VALUE while a slab
   * of it is open.
   */
  startClose(ticket: number, handle: StorageHandle | StoreHandle): void
  /** During `settle`: the value of a call that reported done with code 0; once. undefined when it has none. */
  takeResult(ticket: number): unknown
  /**
   * During `settle`: the message of a call that failed, or of a transfer's first block that failed; once. Empty when there
   * is none.
   */
  takeMessage(ticket: number): string

  /** Reports done (with outcomes) and settled. */
  startTransfer(ticket: number, request: TransferRequest): void
  /**
   * Ends a transfer (or seal, or pattern) early: blocks that have not arrived become misses with `code` (an index into the
   * code list, not 0) and done is reported at once; settled follows when nothing touches the memory any more. No effect on
   * a ticket that is done or is no transfer.
   */
  cancel(ticket: number, code: number): void
  /** Makes the checksum of host slots that the caller filled. Reports outcomes like a transfer. */
  startSeal(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  /** Makes slab records unreadable. */
  startErase(ticket: number, storage: StorageHandle, slots: Uint32Array): void
  /**
   * Makes everything written to the slab so far survive a power loss. Once it has failed it fails until the slab is opened
   * again: the system may have dropped what it could not write, and would then report success.
   */
  startSync(ticket: number, storage: StorageHandle): void
  /**
   * A slot's bytes in contiguous memory storage, without a copy; one window a slot at a time. It keeps the storage open
   * until it is closed or collected. Throws ERR_KV_UNSUPPORTED where the host does not allow such buffers.
   */
  openWindow(storage: StorageHandle, slot: number): ArrayBuffer
  /**
   * Detaches the window. Throws ERR_KV_RELEASED when it was closed before; ERR_KV_DETACHED_ARRAY when its memory was
   * transferred away (`ArrayBuffer.prototype.transfer`): somebody may still write into the slot, which must not be used
   * again. The storage can be closed all the same; its memory stays mapped until the last such buffer is collected.
   */
  closeWindow(window: ArrayBuffer): void

  /** An empty image: a file in memory, or a private temporary one where there are none. Given back when it is collected. */
  openImage(): ImageHandle
  /**
   * By which path an engine of this process opens it: `/proc/self/fd/N`, or the temporary file's. Another file may have it
   * once the image is closed.
   */
  imagePath(image: ImageHandle): string
  /**
   * Result: ReadImage. Reads what the engine wrote, once it is done with writing, and remembers where the rows lie.
   * `sections` names the engine's caches in their order. Fails with ERR_KV_BAD_IMAGE for anything but a whole image of at
   * most `maxTokens` tokens of one sequence, in a version that is known.
   */
  startReadImage(
    ticket: number,
    image: ImageHandle,
    engine: ImageEngine,
    sections: readonly ImageSectionKind[],
    maxTokens: number,
  ): void
  /**
   * Copies blocks of a section of the image that was read last into slots of contiguous host memory, in canonical order:
   * layer by layer K, then V. `moves`: two words a block, its number (first position / the storage's tokens a block;
   * recurrent: 0) and the slot. Makes no checksums. When it fails no slot counts as filled: ERR_KV_INVALID_VALUE where a
   * position is not in the image, ERR_KV_LAYOUT_MISMATCH where a slot is not as large as a block.
   */
  startCutImage(ticket: number, image: ImageHandle, section: number, storage: StorageHandle, moves: Uint32Array): void
  /**
   * Result: BuiltImage. Writes the image of a prefix, which the engine then reads: `shape` of an image that was read,
   * `sources` one a section. Every block is verified before the file is written; where one is bad, and when it fails, the
   * file is empty. A recurrent state is that of the last token.
   */
  startBuildImage(
    ticket: number,
    image: ImageHandle,
    shape: Uint32Array,
    tokens: Uint32Array,
    sources: readonly ImageSource[],
  ): void
  /** Result: boolean. Whether two images have the same bytes; of two different ones, with nothing running on either. */
  startCompareImages(ticket: number, a: ImageHandle, b: ImageHandle): void
  /** Gives the image's memory back and reports; what runs with it ends first. */
  startCloseImage(ticket: number, image: ImageHandle): void

  /** Whether the process carries OpenSSL's SHA-256. Where not, `hashTokens` throws ERR_KV_UNSUPPORTED. */
  canHashTokens(): boolean
  /** Writes `hashes.length / 32` sequence hashes. `parent` is 32 bytes; `extra` is bound into each block. */
  hashTokens(
    parent: Uint8Array,
    tokens: Uint32Array,
    tokensPerBlock: number,
    extra: Uint8Array,
    hashes: Uint8Array,
  ): void
  /** The same on an engine thread. Result: Uint8Array of hashes. */
  startHashTokens(
    ticket: number,
    parent: Uint8Array,
    tokens: Uint32Array,
    tokensPerBlock: number,
    extra: Uint8Array,
  ): void

  /** Fills slots with bytes derived from (hash, layer, K or V, offset). Reports outcomes like a transfer. */
  startFillPattern(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  /** Outcome 0 where the slot holds exactly that pattern, ERR_KV_CHECKSUM where not. */
  startCheckPattern(ticket: number, storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): void
  /**
   * Result: GB/s (1e9 bytes) of plain memcpy in cold, scattered fragments of this size (64 bytes to 128 MiB), one thread;
   * the median of rounds that copy `totalBytes` (at most 16 GiB) in all.
   */
  startMeasureCopy(ticket: number, totalBytes: number, fragmentBytes: number): void
  /** Result: ProbeResult. `directory` may be empty. */
  startProbe(ticket: number, directory: string): void
  /** Test builds only (absent otherwise): faults and holds in the I/O seam. */
  readonly testing?: TestingBinding
}

/** The addon of this package, loaded when this module is. */
export const binding: Binding = loadAddon() as Binding
