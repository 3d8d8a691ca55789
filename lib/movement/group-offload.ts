/**
 * The offload of one layer group: blocks that are held already do not move; blocks that another request is bringing are
 * waited for, not brought twice.
 */
import { type ErrorCode, isKvError } from '../errors.js'
import type { SequenceHashes } from '../identity/sequence-hashes.js'
import { NO_SLOT } from '../native/binding.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { MiB } from '../options.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import {
  findUnexpired,
  type GroupTiers,
  hashBytes,
  isKept,
  type MovementContext,
  markPending,
  NO_PARENT,
  parentFor,
  storageOf,
} from './context.js'
import type { DeviceSlots } from './device-slots.js'
import { noteDeviceLost } from './device-state.js'
import type { CapturedFence } from './fence.js'
import { firstStored } from './match.js'
import { type NativeBatch, startBatch, tierFailureOf } from './native-batch.js'
import { Pins } from './pins.js'
import { giveBackRoom, putDown, takeHostRoomFor } from './room.js'
import type { Outcomes, TransferControl } from './transfer.js'

/** What the blocks of a sequence are stored under, besides their hashes. */
export interface BlockMeta {
  /** The tenant's tag. */
  readonly tenant: number
  readonly priority: number
  /** Unix seconds; 0 = never. */
  readonly expiresAtS: number
}

/** One offload, checked. */
export interface OffloadPlan {
  readonly hashes: SequenceHashes
  readonly firstBlock: number
  readonly blockCount: number
  /** By group: device slots, one a block from `firstBlock`; NO_SLOT where the engine no longer has the block. */
  readonly from: readonly Uint32Array[]
  readonly until: 'host' | 'disk'
  readonly meta: BlockMeta
  readonly after: CapturedFence
  /** Owned device memory: the reservation whose slots become the blocks' device copies; otherwise null. */
  readonly reserved: DeviceSlots | null
  /** Position in the reservation of block `firstBlock`. */
  readonly fromOffset: number
}

/** Bytes that are copied before their write to disk begins. */
const DISK_PART_BYTES = 16 * MiB

/** The offload of one layer group. */
export class GroupOffload {
  readonly #context: MovementContext
  readonly #tiers: GroupTiers
  readonly #plan: OffloadPlan
  readonly #control: TransferControl
  readonly #outcomes: Outcomes
  readonly #pins: Pins
  /** Blocks whose write to disk was asked for and that are not counted as written yet. */
  readonly #unwritten = new Set<number>()
  #ended = false
  /** Whether the bytes in the device slots are known to be there: nothing here waits for a GPU's work, but its copies do. */
  #isProduced: boolean

  constructor(
    context: MovementContext,
    tiers: GroupTiers,
    plan: OffloadPlan,
    control: TransferControl,
    outcomes: Outcomes,
  ) {
    this.#context = context
    this.#tiers = tiers
    this.#plan = plan
    this.#control = control
    this.#outcomes = outcomes
    this.#pins = new Pins(tiers.blocks)
    this.#isProduced = plan.after.handles.length === 0
  }

  async run(): Promise<void> {
    try {
      await this.#intoHost()
      if (this.#plan.until === 'disk') await this.#ontoDisk()
      this.#report()
      this.#touch()
    } finally {
      this.#ended = true
      this.#pins.release()
    }
  }

  /**
   * The first of the plan's blocks that this group stores. Where the last block of a prompt is left to compute, also what
   * the prefix without it needs, if the engine has that still.
   */
  #firstPosition(): number {
    const { firstBlock, blockCount, from } = this.#plan
    const context = this.#context
    const wished = firstStored(context, this.#tiers, firstBlock, blockCount, context.leaveLastBlock)
    if (from[this.#tiers.index]?.[wished] !== NO_SLOT) return wished
    return firstStored(context, this.#tiers, firstBlock, blockCount, false)
  }

  /** Brings what is not held; loops because other requests may store the same blocks meanwhile. */
  async #intoHost(): Promise<void> {
    const { hashes, firstBlock, blockCount, meta } = this.#plan
    const { blocks } = this.#tiers
    const held = new Uint8Array(blockCount)
    for (;;) {
      const wanted: number[] = []
      const joined: number[] = []
      const joins = new Set<Promise<unknown>>()
      for (let i = this.#firstPosition(); i < blockCount; i++) {
        if (held[i] === 1 || this.#outcomes.codes[i] !== CODE.OK) continue
        const entry = findUnexpired(this.#context, this.#tiers, hashes.words, firstBlock + i)
        const tier = entry < 0 ? -1 : blocks.holds(entry, HOST) ? HOST : blocks.holds(entry, DISK) ? DISK : -1
        if (tier >= 0) {
          blocks.extend(entry, meta.priority, meta.expiresAtS)
          this.#pins.pin(entry, tier)
          held[i] = 1
          this.#context.counters.offloadedAlreadyHeld++
          continue
        }
        const pending = entry < 0 ? undefined : this.#context.pending.get(blocks.pendingOf(entry))
        if (pending !== undefined && blocks.slotOf(entry, HOST) >= 0) {
          joins.add(pending)
          joined.push(i)
        } else if (this.#plan.from[this.#tiers.index]?.[i] !== NO_SLOT) wanted.push(i)
        else {
          const message = `No device slot was named for block ${firstBlock + i}, and no tier holds it.`
          this.#outcomes.fail(i, 'ERR_KV_SLOT_OUT_OF_RANGE', message)
        }
      }
      if (joins.size > 0) {
        if (!(await this.#control.wait(Promise.all(joins)))) return this.#failAll([...wanted, ...joined])
        continue
      }
      const [first] = wanted
      if (first === undefined) return
      // Before others make room: behind a block that is in no tier nothing can be stored.
      if (parentFor(this.#tiers, hashes.words, firstBlock + first) === NO_PARENT) return this.#failBehind(wanted)
      if (!(await this.#bring(wanted.slice(0, this.#batchBlocks()), held))) return
    }
  }

  /** On the way to disk in parts, so that one part is written while the next is copied. */
  #batchBlocks(): number {
    const most = LIMITS.maxBlocksPerTransfer
    if (!this.#goesToDisk()) return most
    return Math.max(1, Math.min(most, Math.floor(DISK_PART_BYTES / this.#tiers.blockBytes)))
  }

  #goesToDisk(): boolean {
    return this.#plan.until === 'disk'
  }

  #failAll(positions: readonly number[]): void {
    const code = this.#control.code ?? 'ERR_KV_ABORTED'
    for (const i of positions) this.#outcomes.fail(i, code)
    this.#context.counters.abandoned += positions.length
  }

  #failBehind(positions: readonly number[]): void {
    const [first = 0] = positions
    const message = `Block ${this.#plan.firstBlock + first - 1}, before the first one that is to be stored, is in no tier.`
    for (const i of positions) this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', message)
  }

  /** Moves one batch; false when the transfer was ended. Positions that cannot be moved get their outcome here. */
  async #bring(wanted: readonly number[], held: Uint8Array): Promise<boolean> {
    const { meta } = this.#plan
    const slots = await takeHostRoomFor(this.#context, this.#tiers, wanted.length, meta.tenant, this.#control)
    if (slots === null) {
      this.#failAll(wanted)
      return false
    }
    putDown(this.#tiers, meta.tenant, slots.length)
    const started = this.#begin(wanted, slots)
    giveBackRoom(this.#tiers, HOST, slots)
    if (started.positions.length === 0) {
      // Nothing to move and nothing to wait for: let timers and other requests run before the next round.
      await new Promise((resolve) => setImmediate(resolve))
      return true
    }
    await this.#copy(started.positions, started.entries, held)
    return true
  }

  /** Gives entries to as many wanted blocks as there are slots; what remains in `slots` was not used. */
  #begin(wanted: readonly number[], slots: number[]): { positions: number[]; entries: number[] } {
    const { hashes, firstBlock, meta } = this.#plan
    const { blocks } = this.#tiers
    const positions: number[] = []
    const entries: number[] = []
    for (const i of wanted) {
      const at = firstBlock + i
      const found = blocks.find(hashes.words, at)
      // Another request's: the next round pins it or waits for it. A block that only the device holds is ours to bring.
      if (found >= 0 && (isKept(this.#tiers, found) || blocks.slotOf(found, HOST) >= 0)) continue
      const slot = slots.at(-1)
      if (slot === undefined) {
        const code = blocks.isOverQuota(meta.tenant, HOST) ? 'ERR_KV_OVER_QUOTA' : 'ERR_KV_OUT_OF_BLOCKS'
        this.#outcomes.fail(i, code, 'The host tier has no slot that can be evicted now.')
        continue
      }
      const parent = parentFor(this.#tiers, hashes.words, at)
      if (parent === NO_PARENT) {
        this.#failBehind([i])
        continue
      }
      slots.pop()
      const entry = blocks.begin(hashes.words, at, parent, { ...meta, depth: at })
      blocks.assign(entry, HOST, slot)
      positions.push(i)
      entries.push(entry)
    }
    return { positions, entries }
  }

  async #copy(positions: readonly number[], entries: readonly number[], held: Uint8Array): Promise<void> {
    const { hashes, firstBlock, from } = this.#plan
    const { blocks, index } = this.#tiers
    const context = this.#context
    const moves = new Uint32Array(positions.length * 3)
    positions.forEach((i, at) => {
      moves.set([from[index]?.[i] ?? NO_SLOT, NO_SLOT, blocks.slotOf(entries[at] ?? -1, HOST)], at * 3)
    })
    let native: NativeBatch
    try {
      native = startBatch(context.completions, positions.length, (ticket) =>
        context.binding.startTransfer(ticket, {
          path: 'memoryToMemoryChecked',
          onboard: false,
          source: storageOf(this.#tiers, DEVICE),
          via: null,
          target: storageOf(this.#tiers, HOST),
          moves,
          hashes: hashBytes(
            hashes.words,
            positions.map((i) => firstBlock + i),
          ),
          parents: null,
          records: null,
          after: this.#plan.after.handles,
        }),
      )
    } catch (error) {
      const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
      const message = error instanceof Error ? error.message : ''
      positions.forEach((i, at) => {
        blocks.abandon(entries[at] ?? -1, HOST)
        this.#outcomes.fail(i, code, message)
      })
      context.counters.transferFailures += positions.length
      noteDeviceLost(context, code, message)
      return
    }
    const before = this.#fillingBefore(entries)
    const endPending = markPending(context, this.#tiers, entries)
    const failed: number[] = []
    const published = this.#publish(native, positions, entries, held, failed, before).then(() => {
      // Slots of what failed are filling until native code has let go of them; nobody may try again before.
      if (failed.length === 0) endPending()
    })
    const settled = Promise.all([native.settled, published]).then(() => {
      for (const entry of failed) blocks.abandon(entry, HOST)
      endPending()
    })
    this.#control.adopt(native.ticket, settled)
    await published
  }

  /** Other requests that bring blocks before these now: a block becomes visible only behind one that is. */
  #fillingBefore(entries: readonly number[]): Promise<unknown>[] {
    const { blocks } = this.#tiers
    const before = new Set<Promise<unknown>>()
    for (const entry of entries) {
      const parent = blocks.parentOf(entry)
      const pending =
        parent < 0 || blocks.isHeld(parent) ? undefined : this.#context.pending.get(blocks.pendingOf(parent))
      if (pending !== undefined) before.add(pending)
    }
    return [...before]
  }

  async #publish(
    native: NativeBatch,
    positions: readonly number[],
    entries: readonly number[],
    held: Uint8Array,
    failed: number[],
    before: readonly Promise<unknown>[],
  ): Promise<void> {
    const { blocks } = this.#tiers
    const context = this.#context
    const { codes, message } = await native.done
    if (before.length > 0) await this.#control.wait(Promise.all(before))
    let stored = 0
    positions.forEach((i, at) => {
      const entry = entries[at] ?? -1
      const code = codes[at] ?? CODE.ERR_KV_INTERNAL
      if (code === CODE.OK) this.#isProduced = true
      if (code === CODE.OK && blocks.publish(entry, HOST)) {
        this.#pins.pin(entry, HOST)
        held[i] = 1
        stored++
        return
      }
      failed.push(entry)
      const lost = this.#control.code ?? 'ERR_KV_PARENT_LOST'
      this.#outcomes.fail(i, code === CODE.OK ? lost : (ERROR_CODES[code] as ErrorCode), message)
    })
    context.counters.offloadedToHost += stored
    context.counters.offloadedBytes += stored * this.#tiers.blockBytes
    this.#outcomes.bytes += stored * this.#tiers.blockBytes
    if (this.#control.code !== null) context.counters.abandoned += failed.length
    else context.counters.transferFailures += failed.length
    this.#blameDevice(codes, message)
    if (stored === 0) return
    context.events.emit('stored', { tier: 'host', blocks: stored, group: this.#tiers.group.name })
    if (!this.#goesToDisk()) return
    const missing = new Set(failed)
    this.#control.settleAfter(this.#writePart(entries.filter((entry) => !missing.has(entry))))
  }

  /** A copy from a GPU's memory that failed. */
  #blameDevice(codes: Uint8Array, message: string): void {
    const { device, events } = this.#context
    const code = tierFailureOf(codes)
    if (code === 'ERR_KV_DEVICE_LOST') noteDeviceLost(this.#context, code, message)
    else if (code !== null && device.ordinals.length > 0) events.emit('tierFailed', { tier: 'device', code, message })
  }

  /** Writes a part while the next one is copied. What is written stays: the parts after it must not take its slots. */
  async #writePart(entries: readonly number[]): Promise<void> {
    const { blocks } = this.#tiers
    for (const entry of entries) this.#unwritten.add(entry)
    await this.#context.diskWriter.write(this.#tiers, entries, 'any')
    this.#countWritten(entries)
    if (this.#ended) return
    for (const entry of entries) if (blocks.holds(entry, DISK)) this.#pins.pin(entry, DISK)
  }

  #countWritten(entries: readonly number[]): void {
    for (const entry of entries) {
      if (!this.#tiers.blocks.holds(entry, DISK) || !this.#unwritten.delete(entry)) continue
      this.#context.counters.offloadedToDisk++
    }
  }

  /** Writes what is in host memory and not on disk. The write runs to its end even when the transfer does not wait. */
  async #ontoDisk(): Promise<void> {
    const { hashes, firstBlock, blockCount } = this.#plan
    const { blocks } = this.#tiers
    const entries: number[] = []
    for (let i = this.#firstPosition(); i < blockCount; i++) {
      if (this.#outcomes.codes[i] !== CODE.OK) continue
      const entry = blocks.find(hashes.words, firstBlock + i)
      if (entry < 0 || blocks.holds(entry, DISK)) continue
      entries.push(entry)
      this.#unwritten.add(entry)
    }
    if (entries.length === 0) return
    const writing = this.#context.diskWriter.write(this.#tiers, entries, 'any').then((report) => {
      this.#countWritten(entries)
      return report
    })
    this.#control.settleAfter(writing)
    const inTime = await this.#control.wait(writing)
    this.#outcomes.note(inTime ? (await writing).message : `${this.#control.code} before the blocks were on disk`)
  }

  /** Names the tier that every block reached: disk only where the block, and so all before it, is there. */
  #report(): void {
    const { hashes, firstBlock, blockCount } = this.#plan
    const { blocks } = this.#tiers
    for (let i = 0; i < blockCount; i++) {
      if (i < this.#firstPosition() || this.#outcomes.codes[i] !== CODE.OK) continue
      const entry = blocks.find(hashes.words, firstBlock + i)
      if (entry < 0 || !isKept(this.#tiers, entry))
        this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', 'The block was lost meanwhile.')
      else {
        this.#outcomes.succeed(i, blocks.holds(entry, DISK) ? DISK : HOST, Math.min)
        if (this.#isProduced) this.#plan.reserved?.adopt(this.#tiers.index, this.#plan.fromOffset + i, entry)
      }
    }
  }

  #touch(): void {
    const { hashes, firstBlock, blockCount } = this.#plan
    const { blocks } = this.#tiers
    const end = firstBlock + blockCount
    const entries = new Int32Array(end)
    let count = 0
    while (count < end) {
      const entry = blocks.find(hashes.words, count)
      if (entry < 0 || !blocks.isHeld(entry)) break
      entries[count++] = entry
    }
    blocks.touch(entries, count, this.#context.nextTick())
  }
}
