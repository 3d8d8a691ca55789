/**
 * "Computes" and checks the bytes of slots: each block has the bytes that its hash determines, so that a block in a wrong
 * place, or one byte that is wrong, shows.
 */
import type { BlockManager } from '../../lib/block-manager.ts'
import type { DevicePin } from '../../lib/movement/device-slots.ts'
import { fence } from '../../lib/movement/fence.ts'
import { startBatch } from '../../lib/movement/native-batch.ts'
import type { OffloadOptions, OnboardOptions, Sequence } from '../../lib/movement/sequence.ts'
import type { TransferResult } from '../../lib/movement/transfer.ts'
import { binding, NO_SLOT, type StorageHandle } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { CODE } from '../../lib/native/generated.ts'

/** Blocks handed to the engine at once: small, for managers with a short queue. */
const AT_ONCE = 4

type Start = (ticket: number, slots: Uint32Array, hashes: Uint8Array) => void

async function eachPart(slots: Uint32Array, hashes: Uint8Array, start: Start): Promise<number[]> {
  const codes: number[] = []
  for (let at = 0; at < slots.length; at += AT_ONCE) {
    const part = slots.slice(at, at + AT_ONCE)
    const batch = startBatch(completions(), part.length, (ticket) =>
      start(ticket, part, hashes.slice(at * 32, (at + part.length) * 32)),
    )
    codes.push(...(await batch.done).codes)
    await batch.settled
  }
  return codes
}

/** Gives slots the bytes of their hashes. */
export async function fillSlots(storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): Promise<void> {
  const codes = await eachPart(slots, hashes, (ticket, part, own) =>
    binding.startFillPattern(ticket, storage, part, own),
  )
  if (codes.some((code) => code !== 0)) throw new Error('a slot could not be filled')
}

/** How many slots do not hold exactly the bytes of their hashes. */
export async function countWrong(storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): Promise<number> {
  const codes = await eachPart(slots, hashes, (ticket, part, own) =>
    binding.startCheckPattern(ticket, storage, part, own),
  )
  return codes.filter((code) => code !== 0).length
}

/** How many slots were looked at and hold other bytes than those of their hashes; a look that fails finds nothing. */
export async function countOther(storage: StorageHandle, slots: Uint32Array, hashes: Uint8Array): Promise<number> {
  const codes = await eachPart(slots, hashes, (ticket, part, own) =>
    binding.startCheckPattern(ticket, storage, part, own),
  )
  return codes.filter((code) => code === CODE.ERR_KV_CHECKSUM).length
}

/** The hashes of blocks `first` to `first + count`. */
export function hashesOf(sequence: Sequence, first: number, count: number): Uint8Array {
  sequence.hashes.hashBlocks()
  return sequence.hashes.bytes.slice(first * 32, (first + count) * 32)
}

/** "Computes" blocks from `first` on into a reservation, in every layer group. */
export async function compute(
  manager: BlockManager,
  sequence: Sequence,
  slots: DevicePin,
  first: number,
): Promise<void> {
  for (const [index, group] of manager.layout.groups.entries()) {
    await fillSlots(manager.device.storage(index), slots.slots(group.name), hashesOf(sequence, first, slots.blockCount))
  }
}

/** What {@link store} takes besides. */
export interface StoreOptions extends Partial<Pick<OffloadOptions, 'until' | 'firstBlock' | 'signal' | 'deadlineMs'>> {
  /** Blocks to store (default: to the sequence's end). */
  readonly blocks?: number
}

/** Computes and offloads blocks of a sequence, as an engine with owned device memory does. */
export async function store(
  manager: BlockManager,
  sequence: Sequence,
  options: StoreOptions = {},
): Promise<TransferResult> {
  const { blocks, ...offload } = options
  const firstBlock = offload.firstBlock ?? 0
  const reserved = manager.device.reserve(blocks ?? sequence.blockCount - firstBlock)
  try {
    await compute(manager, sequence, reserved, firstBlock)
    const transfer = sequence.offload({ from: reserved, after: fence.quiet(), ...offload })
    const result = await transfer.done
    await transfer.settled
    return result
  } finally {
    reserved.release()
  }
}

/** What {@link load} found. */
export interface Loaded {
  readonly result: TransferResult
  readonly tokens: number
  /** Blocks whose bytes were looked at, over all layer groups, and those that were not right. */
  readonly checked: number
  readonly wrong: number
}

/** Checks every byte that a pin holds, in every layer group. */
export async function checkPin(
  manager: BlockManager,
  sequence: Sequence,
  pin: DevicePin | null,
): Promise<{ checked: number; wrong: number }> {
  let checked = 0
  let wrong = 0
  for (const [index, group] of manager.layout.groups.entries()) {
    const all = pin?.slots(group.name) ?? new Uint32Array()
    const needed = [...all.keys()].filter((i) => all[i] !== NO_SLOT)
    const hashes = Buffer.concat(needed.map((i) => hashesOf(sequence, i, 1)))
    const slots = Uint32Array.from(needed, (i) => all[i] ?? 0)
    checked += needed.length
    wrong += await countWrong(manager.device.storage(index), slots, new Uint8Array(hashes))
  }
  return { checked, wrong }
}

/** Onboards into owned device memory, checks every byte, and lets go. */
export async function load(
  manager: BlockManager,
  sequence: Sequence,
  options: Partial<OnboardOptions> = {},
): Promise<Loaded> {
  const transfer = sequence.onboard({ after: fence.quiet(), ...options })
  const result = await transfer.done
  await transfer.settled
  const { checked, wrong } = await checkPin(manager, sequence, result.pin)
  result.pin?.release()
  return { result, tokens: result.tokens, checked, wrong }
}

/** Evicts every device block that nothing holds. */
export function emptyDevice(manager: BlockManager): void {
  const { slots, pinned, filling } = manager.stats().tiers.device
  const free = (slots - pinned - filling) / manager.layout.groups.length
  if (free > 0) manager.device.reserve(free).release()
}
