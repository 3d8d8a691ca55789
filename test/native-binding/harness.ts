/**
 * Storages and transfers on the bare binding, for tests of the seam: a small layer group whose blocks carry the pattern of
 * their hash, so that a misplaced byte is seen.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

import {
  binding,
  type GroupShape,
  type LayoutKindName,
  NO_SLOT,
  type OpenedSlab,
  type OpenedStore,
  RECORD_WORDS,
  type StorageHandle,
  type StoreHandle,
  type TestingBinding,
  type TransferPath,
  type TransferRequest,
} from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { ERROR_CODES, type ErrorCode } from '../../lib/native/generated.js'

export const SHAPE: GroupShape = { parts: 1, layers: 3, outer: 2, tokensPerBlock: 16, bytesPerToken: 100 }
export const BLOCK_BYTES = 9600
export const STRIDE = 12288
export const SLOTS = 64
export const FINGERPRINT: Uint8Array = new Uint8Array(32).fill(7)

/** Outcome of a batch, readable. */
export interface Outcome {
  readonly code: ErrorCode | 'OK'
  readonly stage: number
}

/** Everything a batch reported. */
export interface BatchReport {
  readonly ticket: number
  readonly code: ErrorCode | 'OK'
  readonly message: string
  readonly outcomes: readonly Outcome[]
  readonly settled: Promise<void>
}

export const ARRIVED: Outcome = { code: 'OK', stage: 2 }
export const CHECKED: Outcome = { code: 'OK', stage: 0 }
/** A block that did not arrive, and why. */
export function missed(code: ErrorCode): Outcome {
  return { code, stage: 0 }
}
/** `count` times the same. */
export function all(count: number, outcome: Outcome): Outcome[] {
  return new Array<Outcome>(count).fill(outcome)
}

/** The seam for faults that a test build has. */
export function testing(): TestingBinding {
  if (binding.testing === undefined) {
    throw new Error(
      'These tests need the addon of test builds: `npm run build` makes it, `npm test -- PATH` runs a single file with it.',
    )
  }
  return binding.testing
}

/** Opens this process's engine; files that share a process share it. */
export function openEngine(queueBlocks = 4096): void {
  completions()
  binding.openEngine({ threads: 4, readBytesInFlight: 8 << 20, writeBytesInFlight: 8 << 20, queueBlocks })
}

interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/** Starts a batch; resolves when it is done. */
export function startBatch(start: (ticket: number) => void): { ticket: number; done: Promise<BatchReport> } {
  const done = deferred<BatchReport>()
  const settled = deferred<void>()
  const ticket: number = completions().batch(start, {
    onDone: (outcomes, code, message) =>
      done.resolve({
        ticket,
        code: codeName(code),
        message,
        outcomes: Array.from(outcomes, (outcome) => ({ code: codeName(outcome & 0xff), stage: outcome >>> 8 })),
        settled: settled.promise,
      }),
    onSettled: () => settled.resolve(undefined),
  })
  return { ticket, done: done.promise }
}

/** Runs a batch to its end. */
export async function runBatch(start: (ticket: number) => void): Promise<BatchReport> {
  const report = await startBatch(start).done
  await report.settled
  return report
}

function codeName(code: number): ErrorCode | 'OK' {
  return ERROR_CODES[code] ?? 'ERR_KV_INTERNAL'
}

/** 32 bytes a block, different for each number. */
export function hashesOf(numbers: readonly number[]): Uint8Array {
  const hashes = new Uint8Array(numbers.length * 32)
  const view = new DataView(hashes.buffer)
  numbers.forEach((number, place) => {
    view.setUint32(place * 32, number + 1, true)
    view.setUint8(place * 32 + 31, 0x5a)
  })
  return hashes
}

/** 0, 1, … */
export function numbers(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => first + i)
}

/** A request that moves block i between slots i. */
export function request(
  path: TransferPath,
  source: StorageHandle,
  target: StorageHandle,
  blocks: readonly number[],
  via: StorageHandle | null = null,
): TransferRequest {
  const writes = path === 'memoryToSlab'
  return {
    path,
    onboard: path.startsWith('slab'),
    source,
    via,
    target,
    moves: new Uint32Array(blocks.flatMap((block) => [block, via === null ? NO_SLOT : block, block])),
    hashes: hashesOf(blocks),
    parents: writes ? new Uint8Array(blocks.length * 32) : null,
    records: writes ? new Uint32Array(blocks.length * RECORD_WORDS) : null,
  }
}

/** Runs such a request to its end. */
export function transfer(...args: Parameters<typeof request>): Promise<BatchReport> {
  return runBatch((ticket) => binding.startTransfer(ticket, request(...args)))
}

/** Memory of the addon's own. */
export function openMemory(kind: LayoutKindName = 'contiguous', slotCount = SLOTS): Promise<StorageHandle> {
  return completions().call<StorageHandle>((ticket) => binding.startOpenMemory(ticket, kind, SHAPE, slotCount))
}

/** Gives a storage or store back. */
export function close(handle: StorageHandle | StoreHandle): Promise<undefined> {
  return completions().call<undefined>((ticket) => binding.startClose(ticket, handle))
}

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-binding-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A store in `root`. */
export function openStore(root: string, fingerprint: Uint8Array = FINGERPRINT): Promise<OpenedStore> {
  return completions().call<OpenedStore>((ticket) => binding.startOpenStore(ticket, root, fingerprint))
}

/** Layer group 0 of a store. */
export function openSlab(store: StoreHandle, slotCount = SLOTS, keepOrphans = false): Promise<OpenedSlab> {
  return completions().call<OpenedSlab>((ticket) =>
    binding.startOpenSlab(ticket, store, 0, SHAPE, slotCount, true, keepOrphans),
  )
}

/** A host tier, a device tier in another layout, and a slab; closed after the test. */
export interface Tiers {
  readonly root: string
  readonly store: OpenedStore
  readonly slab: OpenedSlab
  readonly disk: StorageHandle
  readonly host: StorageHandle
  readonly device: StorageHandle
}

/** Opens all three. */
export async function openTiers(root: string = temporaryFolder()): Promise<Tiers> {
  const store = await openStore(root)
  const slab = await openSlab(store.store)
  const tiers = {
    root,
    store,
    slab,
    disk: slab.storage,
    host: await openMemory(),
    device: await openMemory('layersKvOuter'),
  }
  onTestFinished(async () => {
    testing().releaseIo()
    testing().setFaults(null)
    for (const handle of [tiers.disk, tiers.host, tiers.device, store.store]) await close(handle).catch(() => undefined)
  })
  return tiers
}

/** Fills host slots with their patterns and seals them. */
export async function fillHost(host: StorageHandle, blocks: readonly number[]): Promise<void> {
  const slots = new Uint32Array(blocks)
  await runBatch((ticket) => binding.startFillPattern(ticket, host, slots, hashesOf(blocks)))
  await runBatch((ticket) => binding.startSeal(ticket, host, slots, hashesOf(blocks)))
}

/** Puts blocks on disk, through the host slots of the same numbers. */
export async function store(tiers: Tiers, blocks: readonly number[]): Promise<void> {
  await fillHost(tiers.host, blocks)
  const written = await transfer('memoryToSlab', tiers.host, tiers.disk, blocks)
  if (written.outcomes.some(({ code }) => code !== 'OK')) throw new Error(`a block was not stored: ${written.message}`)
}

/** The blocks whose slot of the same number holds exactly their pattern. */
export async function holding(storage: StorageHandle, blocks: readonly number[]): Promise<number[]> {
  const report = await runBatch((ticket) =>
    binding.startCheckPattern(ticket, storage, new Uint32Array(blocks), hashesOf(blocks)),
  )
  return blocks.filter((_, place) => report.outcomes[place]?.code === 'OK')
}

/** Resolves when `condition` is true; the test's own timeout bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
