/**
 * The simulated CUDA driver for a test file: importing this makes it the driver of the file's process, with a machine of
 * two GPUs. An engine's own streams, events and memory, and the controls of the simulator, are in {@link sim}.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

/** What the addon of test/support/sim-cuda/engine/ offers. Addresses are those of CUevent, CUstream and CUdeviceptr. */
export interface SimEngine {
  makeStream(gpu: number): bigint
  destroyStream(gpu: number, stream: bigint): void
  /** @param shared - whether other processes can open it */
  makeEvent(gpu: number, shared?: boolean): bigint
  destroyEvent(gpu: number, event: bigint): void
  /** 64 bytes that stand for a shared event. */
  eventHandle(gpu: number, event: bigint): Uint8Array
  record(gpu: number, event: bigint, stream: bigint): void
  wait(gpu: number, stream: bigint, event: bigint): void
  isDone(gpu: number, event: bigint): boolean
  allocate(gpu: number, bytes: number): bigint
  free(gpu: number, pointer: bigint): void
  /** Queues a fill of device memory. */
  fill(gpu: number, stream: bigint, target: bigint, value: number, bytes: number): void
  /** Queues a copy between device memories. */
  copy(gpu: number, stream: bigint, target: bigint, source: bigint, bytes: number): void
  /** An External of native/include/kvtier.h; kind 1 = memory, 2 = stream, 3 = event. */
  wrap(kind: number, address: bigint, bytes: number, ordinal: number): object

  /** See test/support/sim-cuda/sim_control.h for all of these. */
  set(settings: string): void
  hold(): void
  release(): void
  holdStream(stream: bigint): void
  releaseStream(stream: bigint): void
  /** 0 = all that can run. */
  stepAny(operations: number): number
  pending(stream: bigint): number
  /** Waits, blocking this thread, until so many operations are queued; false when they are not in time. */
  waitForWork(operations: number, timeoutMs: number): boolean
  failCall(name: string | null, nth: number, code: number, times: number): void
  failWork(kind: string | null, nth: number, code: number): void
  /** Takes planned failures back. */
  failNothing(): void
  loseDevice(gpu: number, code: number): void
  calls(name: string | null): number
  count(what: string): number
  violations(): string[]
  clearViolations(): void
  /** Device memory now, in no stream's order. */
  read(source: bigint, bytes: number): Uint8Array
  write(target: bigint, bytes: Uint8Array): void
}

/** The folder of what only tests load: the one of the addon that is tested. */
const built = process.env.KVTIER_ADDON
  ? dirname(process.env.KVTIER_ADDON)
  : fileURLToPath(new URL('../../build/testing', import.meta.url))

/** The simulated driver's file. */
export const SIM_CUDA: string = join(built, 'libkvtier_sim_cuda.so')

// Nothing that is measured on a simulated GPU may be kept for the user's real ones.
const cache = mkdtempSync(join(tmpdir(), 'kvtier-cache-'))
process.on('exit', () => rmSync(cache, { recursive: true, force: true }))
process.env.XDG_CACHE_HOME = cache
process.env.KVTIER_CUDA_LIBRARY = SIM_CUDA
process.env.KVTIER_SIM_CUDA = process.env.KVTIER_SIM_CUDA ?? 'lateness_us=0'

/** The engine and the controls. */
export const sim: SimEngine = createRequire(import.meta.url)(join(built, 'kvtier_sim_engine.node')) as SimEngine

/** Runs with all work of the GPUs held until `run` ends, or releases it itself. */
export async function withHeldWork<T>(run: () => Promise<T>): Promise<T> {
  sim.hold()
  try {
    return await run()
  } finally {
    sim.release()
  }
}

/** Resolves when all that is queued in a stream of GPU 0 is done. */
export async function untilIdle(stream: bigint): Promise<void> {
  const event = sim.makeEvent(0)
  sim.record(0, event, stream)
  while (!sim.isDone(0, event)) await new Promise((resolve) => setImmediate(resolve))
  sim.destroyEvent(0, event)
}

/** Resolves when so many operations are queued that cannot run yet. */
export async function untilQueued(operations: number): Promise<void> {
  while (!sim.waitForWork(operations, 1)) await new Promise((resolve) => setImmediate(resolve))
}

/** What no correct program does was not done. */
export function expectNoViolations(): void {
  expect(sim.violations()).toEqual([])
}
