/**
 * The counters of a block manager: plain numbers, exact, since it was opened.
 */
import type { DiskToDevice } from './native/binding.js'
import type { ErrorCode } from './native/generated.js'

/** Slots of one tier, in blocks, summed over the layer groups. */
export interface TierStats {
  /** Slots there are. */
  readonly slots: number
  /** Slots that hold a visible block. */
  readonly held: number
  /** Held and pinned by a transfer or the caller. */
  readonly pinned: number
  /** Being filled by a transfer or a reservation. */
  readonly filling: number
  readonly free: number
  /** Bytes the slots take, whether held or free. */
  readonly capacityBytes: number
  /**
   * Why the tier takes no transfers any more, ERR_KV_DEVICE_LOST for device memory whose GPU failed; null while it does.
   */
  readonly failure: ErrorCode | null
}

/** Monotonic counts since the manager was opened. Bytes are payload bytes that really moved. */
export interface Counters {
  /** Prefix matches asked for, and the tokens they asked for and found. */
  matches: number
  tokensAsked: number
  tokensMatched: number
  /** Blocks that arrived at an onboard's target, by the tier they came from. */
  onboardedFromDevice: number
  onboardedFromHost: number
  onboardedFromDisk: number
  onboardedBytes: number
  /** Blocks that an offload brought into a tier, and those that were held already. */
  offloadedToHost: number
  offloadedToDisk: number
  offloadedAlreadyHeld: number
  offloadedBytes: number
  /** Blocks written from host memory to disk, for whatever reason, and their bytes. */
  diskWrites: number
  diskWriteBytes: number
  /** Blocks read from disk and verified, and their bytes. */
  diskReads: number
  diskReadBytes: number
  /** Copies that left a tier to make room, or because their time was over. */
  evictedFromDevice: number
  evictedFromHost: number
  evictedFromDisk: number
  /** Blocks whose bytes were not those that were stored; each one was a miss. */
  checksumFailures: number
  /** Blocks whose transfer failed for another reason. */
  transferFailures: number
  /** Blocks that became misses through a deadline or an AbortSignal. */
  abandoned: number
  /** Blocks dropped because they, or a block before them, were lost. */
  lost: number
  /** Blocks found on disk when the manager was opened. */
  recovered: number
  /** Disk records that could not be read when the manager was opened: what they named is a miss. */
  recordsUnreadable: number
}

/** What `manager.stats()` returns: a snapshot. */
export interface ManagerStats {
  readonly counters: Readonly<Counters>
  readonly tiers: { readonly device: TierStats; readonly host: TierStats; readonly disk: TierStats }
  /**
   * Milliseconds that opening the disk tier took: preallocation, trying and measuring direct transfers to a GPU, reading
   * the table, adopting it. 0 without one.
   */
  readonly diskOpenMs: number
  /**
   * Which loads go directly from the disk to a GPU where they leave no copy in host memory, how fast both ways are, and why
   * some do not go directly: the first layer group's answer. null where that was not tried: no disk tier, O_DIRECT or
   * direct transfers not wished for (`disk.direct`, `disk.gpuDirect`), or no GPU memory in which a block is one piece. What
   * goes to disk always comes from host memory.
   */
  readonly diskToDevice: DiskToDevice | null
}

/** Counters at zero. */
export function zeroCounters(): Counters {
  return {
    matches: 0,
    tokensAsked: 0,
    tokensMatched: 0,
    onboardedFromDevice: 0,
    onboardedFromHost: 0,
    onboardedFromDisk: 0,
    onboardedBytes: 0,
    offloadedToHost: 0,
    offloadedToDisk: 0,
    offloadedAlreadyHeld: 0,
    offloadedBytes: 0,
    diskWrites: 0,
    diskWriteBytes: 0,
    diskReads: 0,
    diskReadBytes: 0,
    evictedFromDevice: 0,
    evictedFromHost: 0,
    evictedFromDisk: 0,
    checksumFailures: 0,
    transferFailures: 0,
    abandoned: 0,
    lost: 0,
    recovered: 0,
    recordsUnreadable: 0,
  }
}
