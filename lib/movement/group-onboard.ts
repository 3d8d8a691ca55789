/**
 * The onboard of one layer group. Bytes that come back from disk are verified before anything is told; a block that fails
 * is a miss, is dropped with what follows it, and its record is erased.
 */
import { type ErrorCode, isKvError } from '../errors.js'
import type { SequenceHashes } from '../identity/sequence-hashes.js'
import { NO_SLOT, type TransferPath } from '../native/binding.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import { type GroupTiers, hashBytes, type MovementContext, markPending, storageOf } from './context.js'
import { noteDeviceLost } from './device-state.js'
import type { CapturedFence } from './fence.js'
import type { ReadyOffer } from './layer-events.js'
import { type FirstWanted, type FullMatch, firstNeeded, nearestTier } from './match.js'
import { type BatchOutcomes, type NativeBatch, startBatch, tierFailureOf } from './native-batch.js'
import { Pins } from './pins.js'
import { takeRoomNow } from './room.js'
import type { Outcomes, TransferControl } from './transfer.js'

/** One onboard, checked. */
export interface OnboardPlan {
  readonly hashes: SequenceHashes
  /** Borrowed device memory: slots by group, one a block; null for owned memory and for `to: 'host'`. */
  readonly into: readonly Uint32Array[] | null
  readonly to: 'device' | 'host'
  /** Blocks at most. */
  readonly maxBlocks: number
  readonly leaveLast: boolean
  /** Which earlier blocks of sliding groups come besides (`to: 'host'`). */
  readonly firstWanted?: FirstWanted | undefined
  readonly tenant: number
  readonly after: CapturedFence
  /** Where the caller asked for events a layer; otherwise null. */
  readonly ready: ReadyOffer | null
  /** Called with the host pins that the caller keeps (`to: 'host'`); otherwise they end with the transfer. */
  readonly keepPins?: (release: () => void, entries: readonly Int32Array[]) => void
}

/** The tier that a block is read from: the nearest that holds it, but for a load into host memory not the device. */
export function sourceOf(tiers: GroupTiers, to: OnboardPlan['to'], entry: number): number {
  const tier = nearestTier(tiers, entry)
  if (tier !== DEVICE || to === 'device') return tier
  return tiers.blocks.holds(entry, HOST) ? HOST : tiers.blocks.holds(entry, DISK) ? DISK : -1
}

const further = (a: number, b: number): number => Math.max(a, b)

/** One native batch of an onboard: blocks that come from one tier. */
interface Leg {
  readonly path: TransferPath
  readonly from: number
  readonly positions: readonly number[]
  /** By position in the batch; NO_SLOT = staging. */
  readonly via: readonly number[]
}

/** How a device slot is held for the caller. */
const NOT_HELD = 0
/** Its block is published there and pinned. */
const PINNED = 1
/** Its block was lost meanwhile: the bytes are right, but the slot is this transfer's own. */
const LOOSE = 2

/** See the file's first lines. */
export class GroupOnboard {
  readonly #context: MovementContext
  readonly #tiers: GroupTiers
  readonly #plan: OnboardPlan
  readonly #control: TransferControl
  readonly #outcomes: Outcomes
  readonly #entries: Int32Array
  /** First block that the match needs of the group: one before it comes besides. */
  readonly #needed: number
  /** By block: the tier it is read from, -1 where it does not come. */
  readonly #sources: Int8Array
  /** Owned device memory, by block: how its device slot is held for the caller, and the slots of those that are loose. */
  readonly #device: Uint8Array
  readonly #looseSlots: Uint32Array
  readonly #pins: Pins
  /** Blocks that were loaded into host memory for the caller and lost meanwhile: their slots are this transfer's own. */
  #looseInHost: number[] = []
  #someBesidesFailed = false
  #tick = 0
  #mistakes = 0

  constructor(
    context: MovementContext,
    tiers: GroupTiers,
    plan: OnboardPlan,
    match: FullMatch,
    control: TransferControl,
    outcomes: Outcomes,
  ) {
    this.#context = context
    this.#tiers = tiers
    this.#plan = plan
    this.#control = control
    this.#outcomes = outcomes
    this.#entries = match.entries[tiers.index] ?? new Int32Array()
    this.#needed = firstNeeded(tiers, match.blocks, context.tokensPerBlock)
    this.#sources = new Int8Array(match.blocks).fill(-1)
    this.#device = new Uint8Array(match.blocks)
    this.#looseSlots = new Uint32Array(match.blocks)
    this.#pins = new Pins(tiers.blocks)
  }

  /** Holds every block where it will be read from; one that is on the device already, for the caller. */
  pinSources(): void {
    const { blocks } = this.#tiers
    this.#entries.forEach((entry, i) => {
      if (entry < 0) return
      const tier = sourceOf(this.#tiers, this.#plan.to, entry)
      if (tier < 0) {
        this.#outcomes.fail(i, 'ERR_KV_OUT_OF_BLOCKS', 'The block is only in device memory.')
        return
      }
      this.#sources[i] = tier
      if (tier !== DEVICE) this.#pins.pin(entry, tier)
      else {
        blocks.pin(entry, DEVICE)
        this.#device[i] = PINNED
      }
    })
    const used = this.#entries.filter((entry) => entry >= 0)
    this.#tick = this.#context.nextTick()
    this.#mistakes = this.#context.mistakes.overwritten
    blocks.touch(used, used.length, this.#tick)
  }

  /** Lets go of everything but what was handed to the caller. Calling it again does nothing. */
  releasePins(): void {
    this.#pins.release()
    for (const entry of this.#looseInHost) this.#tiers.blocks.abandon(entry, HOST)
    this.#looseInHost = []
  }

  /** Moves what has to move; afterwards every needed block has an outcome. */
  async move(): Promise<void> {
    const toHost = this.#plan.to === 'host'
    const fromHost: number[] = []
    const fromDisk: number[] = []
    this.#sources.forEach((tier, i) => {
      if (this.#outcomes.codes[i] !== CODE.OK) return
      if (tier >= 0 && this.#plan.into?.[this.#tiers.index]?.[i] === NO_SLOT) {
        this.#outcomes.fail(i, 'ERR_KV_SLOT_OUT_OF_RANGE', `No device slot was named for block ${i}.`)
      } else if (tier === HOST && !toHost) fromHost.push(i)
      else if (tier === DISK) fromDisk.push(i)
    })
    // Where slots are scarce the first blocks get them, for the others cannot be used without those; what comes besides is
    // last, and in batches of its own.
    const inOrder = [...fromHost, ...fromDisk].sort((a, b) => a - b)
    if (!toHost && this.#plan.into === null) this.#takeDeviceSlots(inOrder)
    const legs: Leg[] = []
    const usable = (i: number): boolean => this.#outcomes.codes[i] === CODE.OK && (this.#sources[i] ?? -1) >= 0
    const isNeeded = (i: number): boolean => i >= this.#needed
    const isBesides = (i: number): boolean => i < this.#needed
    for (const positions of batches(fromHost.filter(usable))) {
      legs.push({ path: 'memoryToMemory', from: HOST, positions, via: [] })
    }
    const diskReads = fromDisk.filter(usable)
    for (const positions of [...batches(diskReads.filter(isNeeded)), ...batches(diskReads.filter(isBesides))]) {
      const via = this.#takeVia(positions, toHost)
      legs.push({
        path: toHost ? 'slabToMemory' : 'slabToMemoryVia',
        from: DISK,
        positions: positions.filter(usable),
        via,
      })
    }
    await Promise.all(legs.filter((leg) => leg.positions.length > 0).map((leg) => this.#run(leg)))
  }

  /** Owned device memory: a slot for every block that is not there yet; a block that gets none is a miss. */
  #takeDeviceSlots(positions: readonly number[]): void {
    const { blocks } = this.#tiers
    const slots = takeRoomNow(this.#context, this.#tiers, DEVICE, positions.length, this.#plan.tenant)
    positions.forEach((i, at) => {
      const slot = slots[at]
      if (slot === undefined) this.#outcomes.fail(i, 'ERR_KV_OUT_OF_BLOCKS', 'Every device slot is pinned.')
      else blocks.assign(this.#entries[i] ?? -1, DEVICE, slot)
    })
  }

  /** Host slots that keep a copy of what comes from disk; where there is no room now, a staging buffer must do. */
  #takeVia(positions: readonly number[], needed: boolean): number[] {
    const { blocks } = this.#tiers
    const slots = takeRoomNow(this.#context, this.#tiers, HOST, positions.length, this.#plan.tenant)
    const via: number[] = []
    for (const [at, i] of positions.entries()) {
      const slot = slots[at]
      if (slot !== undefined) blocks.assign(this.#entries[i] ?? -1, HOST, slot)
      else if (needed) {
        this.#miss(i, 'ERR_KV_OUT_OF_BLOCKS', 'The host tier has no slot that can be evicted now.')
        continue
      }
      via.push(slot ?? NO_SLOT)
    }
    return via
  }

  #targetSlot(i: number): number {
    const { into } = this.#plan
    if (into !== null) return into[this.#tiers.index]?.[i] ?? NO_SLOT
    return this.#tiers.blocks.slotOf(this.#entries[i] ?? -1, this.#plan.to === 'host' ? HOST : DEVICE)
  }

  async #run(leg: Leg): Promise<void> {
    const { blocks } = this.#tiers
    const context = this.#context
    const entries = leg.positions.map((i) => this.#entries[i] ?? -1)
    const giveUp = (at: number): void => {
      if (this.#fillsHost(leg, at)) blocks.abandon(entries[at] ?? -1, HOST)
      if (this.#fillsDevice) blocks.abandon(entries[at] ?? -1, DEVICE)
    }
    const moves = new Uint32Array(leg.positions.length * 3)
    leg.positions.forEach((i, at) => {
      const toHost = this.#plan.to === 'host'
      const via = toHost ? NO_SLOT : (leg.via[at] ?? NO_SLOT)
      moves.set([blocks.slotOf(entries[at] ?? -1, leg.from), via, this.#targetSlot(i)], at * 3)
    })
    let native: NativeBatch
    try {
      native = this.#start(leg, moves)
    } catch (error) {
      const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
      const message = error instanceof Error ? error.message : ''
      leg.positions.forEach((i, at) => {
        this.#miss(i, code, message)
        giveUp(at)
      })
      this.#plan.ready?.refuse()
      context.counters.transferFailures += leg.positions.length
      noteDeviceLost(context, code, message)
      return
    }
    // What only reads accounted slots keeps nobody waiting.
    const filled = entries.filter((_, at) => this.#fillsDevice || this.#fillsHost(leg, at))
    const endPending = markPending(context, this.#tiers, filled)
    // What is not published must not be used again before native code has let go of it: positions in the batch.
    const failed: number[] = []
    const corrupt: number[] = []
    for (const entry of entries) blocks.pin(entry, leg.from)
    const settled = native.settled.then(async () => {
      for (const at of failed) giveUp(at)
      endPending()
      await this.#eraseCorrupt(leg, entries, corrupt)
      for (const entry of entries) blocks.unpin(entry, leg.from)
    })
    this.#control.adopt(native.ticket, settled)
    const result = await native.done
    if (result.codes.some((code) => code !== CODE.OK)) this.#plan.ready?.refuse()
    leg.positions.forEach((i, at) => {
      const entry = entries[at] ?? -1
      const code = result.codes[at] ?? CODE.ERR_KV_INTERNAL
      if (code === CODE.OK) this.#arrived(i, entry, this.#fillsHost(leg, at))
      else {
        failed.push(at)
        if (code === CODE.ERR_KV_CHECKSUM) corrupt.push(entry)
        this.#miss(i, ERROR_CODES[code] as ErrorCode, result.message)
      }
    })
    this.#count(leg, result, corrupt.length)
    for (const entry of corrupt) this.#lose(entry)
    if (failed.length === 0) endPending()
  }

  /** A block does not arrive: a miss where it is needed, and otherwise the end of what would have come besides. */
  #miss(i: number, code: ErrorCode, message: string): void {
    if (i >= this.#needed) {
      this.#outcomes.fail(i, code, message)
      return
    }
    this.#outcomes.note(message === '' ? `${code} at block ${i}` : message)
    this.#sources[i] = -1
    this.#someBesidesFailed = true
  }

  /** Starts the native batch of a leg; throws what the binding throws. */
  #start(leg: Leg, moves: Uint32Array): NativeBatch {
    const { hashes, to, after, ready } = this.#plan
    const { binding, completions } = this.#context
    const target = storageOf(this.#tiers, to === 'host' ? HOST : DEVICE)
    const request = {
      path: leg.path,
      onboard: true,
      source: storageOf(this.#tiers, leg.from as 1 | 2),
      via: leg.path === 'slabToMemoryVia' ? storageOf(this.#tiers, HOST) : null,
      target,
      moves,
      hashes: hashBytes(hashes.words, leg.positions),
      parents: null,
      records: null,
      after: after.handles,
      ready: ready?.begin(this.#tiers, target),
    }
    const onReady = ready === null ? undefined : () => ready.queued()
    return startBatch(completions, leg.positions.length, (ticket) => binding.startTransfer(ticket, request), onReady)
  }

  /**
   * The block is where it was asked to be; its new copies become visible. Where the block was lost meanwhile, expired for
   * example, its bytes are right all the same: the caller gets them, and nobody after.
   */
  #arrived(i: number, entry: number, fillsHost: boolean): void {
    const { blocks } = this.#tiers
    if (fillsHost) {
      const published = blocks.publish(entry, HOST, 0, this.#tick)
      if (this.#plan.to === 'device') {
        if (!published) blocks.abandon(entry, HOST)
      } else if (published) this.#pins.pin(entry, HOST)
      else this.#looseInHost.push(entry)
    }
    if (this.#fillsDevice) {
      if (blocks.publish(entry, DEVICE, 1, this.#tick)) this.#device[i] = PINNED
      else {
        this.#looseSlots[i] = blocks.slotOf(entry, DEVICE)
        blocks.unassign(entry, DEVICE)
        this.#device[i] = LOOSE
      }
    }
    this.#outcomes.bytes += this.#tiers.blockBytes
  }

  /** Whether this onboard, and not another request, fills the block's host slot. */
  #fillsHost(leg: Leg, at: number): boolean {
    return leg.from === DISK && (this.#plan.to === 'host' || (leg.via[at] ?? NO_SLOT) !== NO_SLOT)
  }

  /** Whether this onboard fills device slots that kvtier accounts. */
  get #fillsDevice(): boolean {
    return this.#plan.to === 'device' && this.#plan.into === null
  }

  #count(leg: Leg, { codes, gpuFailed, message }: BatchOutcomes, corrupt: number): void {
    const { counters, events } = this.#context
    let arrived = 0
    for (const code of codes) if (code === CODE.OK) arrived++
    const failed = codes.length - arrived
    if (leg.from === HOST) counters.onboardedFromHost += arrived
    else {
      counters.onboardedFromDisk += arrived
      counters.diskReads += arrived
      counters.diskReadBytes += arrived * this.#tiers.blockBytes
    }
    counters.onboardedBytes += arrived * this.#tiers.blockBytes
    counters.checksumFailures += corrupt
    const failure = tierFailureOf(codes)
    if (failure === 'ERR_KV_DEVICE_LOST') noteDeviceLost(this.#context, failure, message)
    if (this.#control.code !== null) {
      counters.abandoned += failed - corrupt
      return
    }
    counters.transferFailures += failed - corrupt
    if (failure === null || failure === 'ERR_KV_DEVICE_LOST') return
    const onGpu = gpuFailed[codes.indexOf(CODE[failure])] === 1
    events.emit('tierFailed', { tier: onGpu ? 'device' : this.#suspect(leg), code: failure, message })
  }

  /** The tier that most likely failed a leg. */
  #suspect(leg: Leg): 'disk' | 'device' | 'host' {
    if (leg.from === DISK) return 'disk'
    return this.#context.device.ordinals.length > 0 ? 'device' : 'host'
  }

  /** A block's bytes are not those that were stored: it and what follows it are gone. */
  #lose(entry: number): void {
    const lost = this.#tiers.blocks.drop(entry)
    this.#context.counters.lost += lost
    this.#context.events.emit('lost', {
      tier: 'disk',
      blocks: lost,
      group: this.#tiers.group.name,
      reason: 'ERR_KV_CHECKSUM',
    })
  }

  /** Erases bad records before their slots can be used again, so that a restart does not find them. */
  async #eraseCorrupt(leg: Leg, entries: readonly number[], corrupt: readonly number[]): Promise<void> {
    if (corrupt.length === 0 || leg.from !== DISK) return
    const bad = new Set(corrupt)
    const slots = Uint32Array.from(
      entries.filter((entry) => bad.has(entry)).map((entry) => this.#tiers.blocks.slotOf(entry, DISK)),
    )
    try {
      await this.#context.completions.call((ticket) =>
        this.#context.binding.startErase(ticket, storageOf(this.#tiers, DISK), slots),
      )
    } catch (error) {
      // The record stays; the next load fails its check again, which is a miss.
      const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
      this.#context.events.emit('tierFailed', {
        tier: 'disk',
        code,
        message: error instanceof Error ? error.message : '',
      })
    }
  }

  /** Blocks that were where they are wanted already, and the votes of this group for every outcome. */
  finish(): void {
    const distrusted = this.#context.mistakes.overwritten !== this.#mistakes
    const lost = this.#plan.to === 'device' ? this.#context.device.failure : null
    if (this.#someBesidesFailed) {
      // Who reads the blocks needs them without a gap: none, or all.
      this.#sources.fill(-1, 0, this.#needed)
      this.#entries.fill(-1, 0, this.#needed)
    }
    for (let i = 0; i < this.#sources.length; i++) {
      const source = this.#sources[i] ?? -1
      // Also what arrived before: no GPU can read it any more.
      if (lost !== null) this.#outcomes.fail(i, lost.code, lost.message)
      else if (source === DEVICE && distrusted && this.#tiers.blocks.isLost(this.#entries[i] ?? -1)) {
        this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', 'Its device copy may have been written over.')
      } else if (source === DEVICE && this.#outcomes.codes[i] === CODE.OK) {
        this.#context.counters.onboardedFromDevice++
      }
      // A block that the group does not need (outside its window) is as good as one on the device.
      this.#outcomes.succeed(i, source < 0 ? DEVICE : source, further)
    }
  }

  /** The device slots of all blocks, on their way or there; NO_SLOT for a block that the group does not need. */
  deviceSlots(): Uint32Array {
    return Uint32Array.from(this.#sources, (source, i) => (source < 0 ? NO_SLOT : this.#targetSlot(i)))
  }

  /** Whether this group needed, and so has, all that it needs for a prefix of `count` blocks, which all arrived. */
  covers(count: number): boolean {
    if (this.#tiers.blocks.prefixClosed) return true
    const first = firstNeeded(this.#tiers, count, this.#context.tokensPerBlock)
    for (let i = first; i < count; i++) if ((this.#sources[i] ?? -1) < 0) return false
    return true
  }

  /** Hands the first `count` device slots to the caller and lets go of the others. A second call has none to hand. */
  takeDevice(count: number): { slots: Uint32Array; entries: Int32Array } {
    const { blocks } = this.#tiers
    const slots = new Uint32Array(count).fill(NO_SLOT)
    const entries = new Int32Array(count).fill(-1)
    this.#device.forEach((held, i) => {
      if (held === NOT_HELD) return
      const entry = this.#entries[i] ?? -1
      const slot = held === LOOSE ? (this.#looseSlots[i] ?? NO_SLOT) : blocks.slotOf(entry, DEVICE)
      if (i < count) {
        slots[i] = slot
        entries[i] = held === LOOSE ? -1 : entry
      } else if (held === LOOSE) blocks.giveBack(DEVICE, slot)
      else blocks.unpin(entry, DEVICE)
    })
    this.#device.fill(NOT_HELD)
    return { slots, entries }
  }
}

function batches(positions: readonly number[]): number[][] {
  const parts: number[][] = []
  for (let at = 0; at < positions.length; at += LIMITS.maxBlocksPerTransfer) {
    parts.push(positions.slice(at, at + LIMITS.maxBlocksPerTransfer))
  }
  return parts
}
