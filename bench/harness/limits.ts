/**
 * The native limits (bench/native), typed: plain loops that show what the machine can do. Every call blocks the thread
 * until it is done.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

declare const tag: unique symbol
/** Memory, a file or a thread that a limit uses until `close`. */
export interface LimitHandle<Kind extends string> {
  readonly [tag]: Kind
}

/** Wall seconds, then processor seconds of all threads. */
export type Elapsed = readonly [wallSeconds: number, cpuSeconds: number]

/**
 * How copies between a GPU and host memory are queued: as comparable systems do, in one plain copy of as many bytes (the
 * limit), or as kvtier chooses after a calibration.
 */
export type DeviceWay =
  | 'plain'
  | 'loop'
  | 'batch-stream'
  | 'batch-any'
  | 'coalesced'
  | 'rectangle'
  | 'staged'
  | 'kernel'
  | 'chosen'

/** See the file's first lines. */
export interface Limits {
  /** Processor time of this thread. */
  threadCpuSeconds(): number
  /** Processor time of all threads of the process. */
  processCpuSeconds(): number
  /** Blocks of fragments, each fragment of a block in a region of its own, and as many whole blocks. */
  openCopy(fragmentBytes: number, fragmentsPerBlock: number, blocks: number): LimitHandle<'copy'>
  /** Copies every block once by memcpy, from fragments to blocks or (`scatters`) back. */
  runCopy(copy: LimitHandle<'copy'>, threads: number, scatters: boolean): Elapsed
  /** Copies every block once by kvtier's kernel with the checksum, without an engine. */
  runCheckedKernel(copy: LimitHandle<'copy'>): Elapsed
  /**
   * Blocks on a GPU, each run of a block in a region of its own, and as many contiguous ones in pinned host memory.
   *
   * @param library - the driver's file, '' for the system's
   * @param scattered - whether the device's slots are in a drawn order
   */
  openDevice(
    library: string,
    device: number,
    runBytes: number,
    runsPerBlock: number,
    blocks: number,
    scattered: boolean,
  ): LimitHandle<'device'>
  /**
   * Copies every block once. The seconds are the device's, from before the first call to the end of the last copy; the
   * processor seconds are this thread's, to queue them. `kernelBlocks` is the number of thread blocks of `kernel` and
   * `staged`. Null where that way cannot be gone on this machine.
   */
  runDevice(device: LimitHandle<'device'>, way: DeviceWay, toDevice: boolean, kernelBlocks: number): Elapsed | null
  /** Whether that way brings every byte of fresh memory to its place; null as above. */
  isDeviceRight(device: LimitHandle<'device'>, way: DeviceWay, toDevice: boolean, kernelBlocks: number): boolean | null
  /**
   * Both directions at once, `away` from the GPU and `towards` it, queued by two threads: seconds until both are done, and
   * both threads' processor seconds.
   */
  runDevices(
    away: LimitHandle<'device'>,
    towards: LimitHandle<'device'>,
    way: DeviceWay,
    kernelBlocks: number,
  ): Elapsed | null
  /** Whether every byte of both arrives when they run at once; null as above. */
  areDevicesRight(
    away: LimitHandle<'device'>,
    towards: LimitHandle<'device'>,
    way: DeviceWay,
    kernelBlocks: number,
  ): boolean | null
  /**
   * Matrix products that keep a GPU busy; null where the build or the GPU has no kernel for them.
   *
   * @param rows - of each matrix, a multiple of 4
   */
  openWork(library: string, device: number, rows: number): LimitHandle<'work'> | null
  /** Queues so many products, one after the other, and does not wait for them. */
  startWork(work: LimitHandle<'work'>, products: number): void
  /** Whether all of them have run. */
  isWorkDone(work: LimitHandle<'work'>): boolean
  /** Waits for them; seconds on the device's clock, from the first one's start to the last one's end. */
  finishWork(work: LimitHandle<'work'>): number
  /** Whether the last product is right. */
  isWorkRight(work: LimitHandle<'work'>): boolean
  /** A preallocated file, removed by `close`, and as much memory. */
  openDisk(path: string, bytes: number): LimitHandle<'disk'>
  /** Whether the file is used with O_DIRECT. */
  isDirect(disk: LimitHandle<'disk'>): boolean
  /** Moves the whole file once in operations of `opBytes`. */
  runDisk(disk: LimitHandle<'disk'>, opBytes: number, threads: number, writes: boolean): Elapsed
  /** Hashes blocks as `binding.hashTokens` does; false without OpenSSL's SHA-256. */
  hashTokens(parent: Uint8Array, tokens: Uint32Array, tokensPerBlock: number, hashes: Uint8Array): boolean
  /** A table with these hashes. */
  openTable(hashes: Uint8Array): LimitHandle<'table'>
  /** How many leading hashes are in the table; their numbers go to `found`. */
  findLeading(table: LimitHandle<'table'>, hashes: Uint8Array, found: Int32Array): number
  /** Gives every slot of group 0 of a closed store a record. */
  fillRecords(storePath: string, chainBlocks: number, scattered: boolean): void
  /** Reads a table's records and hashes each. */
  readRecords(tablePath: string): Elapsed
  /** A thread that calls back for every `sendPing`. */
  openPing(callback: () => void): LimitHandle<'ping'>
  sendPing(ping: LimitHandle<'ping'>): void
  /** Gives a handle's memory, file or thread back. */
  close(handle: LimitHandle<string>): void
}

/**
 * Loads limits.node from the build folder that this file was compiled into.
 *
 * @throws Error that says what to build when it is not there
 */
export function loadLimits(): Limits {
  const path = process.env.KVTIER_LIMITS ?? fileURLToPath(new URL('../../../testing/limits.node', import.meta.url))
  if (!existsSync(path)) throw new Error(`${path} is not there: run npm run build first.`)
  return createRequire(import.meta.url)(path) as Limits
}
