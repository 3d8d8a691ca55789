/**
 * Onboard: the longest held prefix of a prompt, towards the GPU. Bytes that come back from disk are verified before
 * anything is told; a block that fails is a miss, is dropped with what follows it, and its record is erased.
 */
import { type ErrorCode, isKvError } from '../errors.js'
import type { SequenceHashes } from '../identity/sequence-hashes.js'
import { NO_SLOT, type TransferPath } from '../native/binding.js'
import { CODE, ERROR_CODES, LIMITS } from '../native/generated.js'
import { DEVICE, DISK, HOST } from '../tiers/types.js'
import { type GroupTiers, hashBytes, type MovementContext, markPending, storageOf } from './context.js'
import { DeviceSlots } from './device-slots.js'
import type { Fence } from './fence.js'
import { type FullMatch, firstNeeded, matchPrefix, nearestTier } from './match.js'
import { startBatch } from './native-batch.js'
import { waitForFence } from './offload.js'
import { giveBackRoom, takeRoomNow } from './room.js'
import { Outcomes, type TransferControl, type TransferResult } from './transfer.js'

/** One onboard, checked. */
export interface OnboardPlan {
  readonly hashes: SequenceHashes
  /** Borrowed device memory: slots by group, one a block; null for owned memory and for `to: 'host'`. */
  readonly into: readonly Uint32Array[] | null
  readonly to: 'device' | 'host'
  /** Blocks at most. */
  readonly maxBlocks: number
  readonly leaveLast: boolean
  readonly tenant: number
  readonly after: Fence
  /** Called with the host pins that the caller keeps (`to: 'host'`); otherwise they end with the transfer. */
  readonly keepPins?: (release: () => void, entries: readonly Int32Array[]) => void
}

const LOST_MEANWHILE = 'The block was lost while it was loaded.'

const further = (a: number, b: number): number => Math.max(a, b)

/** Runs an onboard; resolves with the outcome of every block of the match. */
export async function runOnboard(
  context: MovementContext,
  plan: OnboardPlan,
  control: TransferControl,
): Promise<TransferResult> {
  const prepared = plan.hashes.prepare()
  control.settleAfter(prepared.catch(() => undefined))
  if (!(await control.wait(prepared))) return endedEarly(control).result(0, null)
  await prepared
  const stopped = await waitForFence(control, plan.after)
  let match = matchNow(context, plan)
  for (let joins = joinsOf(context, match); stopped === null && joins.length > 0; joins = joinsOf(context, match)) {
    if (!(await control.wait(Promise.all(joins)))) break
    match = matchNow(context, plan)
  }
  // No await from the match to the start of the native batches: nothing can leave, or be begun by another, between.
  const outcomes = new Outcomes(match.blocks)
  const code = stopped ?? control.code
  const groups = context.groups.map((tiers) => new GroupOnboard(context, tiers, plan, match, control, outcomes))
  if (code !== null) {
    for (let i = 0; i < match.blocks; i++) outcomes.fail(i, code)
    context.counters.abandoned += match.blocks
  } else {
    for (const group of groups) group.pinSources()
    await Promise.all(groups.map((group) => group.move()))
  }
  for (const group of groups) group.finish()
  const usable = usableBlocks(groups, outcomes.run)
  const pin = plan.to === 'device' && plan.into === null ? collectPin(context, groups, usable) : null
  if (plan.keepPins !== undefined) plan.keepPins(() => releaseAll(groups), match.entries)
  else releaseAll(groups)
  return outcomes.result(usable * context.tokensPerBlock, pin)
}

/** The longest prefix that can be used: where a block failed, the window or the state of a shorter one may not be there. */
function usableBlocks(groups: readonly GroupOnboard[], run: number): number {
  let count = run
  while (count > 0 && !groups.every((group) => group.covers(count))) count--
  return count
}

/** Ended before it was known which blocks are held. */
function endedEarly(control: TransferControl): Outcomes {
  const outcomes = new Outcomes(0)
  outcomes.message = `${control.code} before the prompt was looked up`
  return outcomes
}

function releaseAll(groups: readonly GroupOnboard[]): void {
  for (const group of groups) group.releasePins()
}

function matchNow(context: MovementContext, plan: OnboardPlan): FullMatch {
  const { hashes } = plan
  const count = Math.min(hashes.hashedCount, plan.maxBlocks)
  const whole = count * context.tokensPerBlock === hashes.tokenCount
  return matchPrefix(context, hashes.words, count, plan.leaveLast, whole)
}

/** What is bringing blocks of the match nearer now: a block that is being loaded is joined, not loaded twice. */
function joinsOf(context: MovementContext, match: FullMatch): Promise<unknown>[] {
  const joins = new Set<Promise<unknown>>()
  for (const tiers of context.groups) {
    for (const entry of match.entries[tiers.index] ?? []) {
      const pending = entry < 0 ? undefined : context.pending.get(tiers.blocks.pendingOf(entry))
      if (pending !== undefined) joins.add(pending)
    }
  }
  return [...joins]
}

function collectPin(context: MovementContext, groups: readonly GroupOnboard[], count: number): DeviceSlots {
  const held = groups.map((group) => group.takeDevice(count))
  return new DeviceSlots(
    context,
    held.map((group) => group.slots),
    held.map((group) => group.entries),
  )
}

/** One native batch of an onboard: blocks that come from one tier. */
interface Leg {
  readonly path: TransferPath
  readonly from: number
  readonly positions: readonly number[]
  /** By position in the batch; NO_SLOT = staging. */
  readonly via: readonly number[]
}

/** The onboard of one layer group. */
class GroupOnboard {
  readonly #context: MovementContext
  readonly #tiers: GroupTiers
  readonly #plan: OnboardPlan
  readonly #control: TransferControl
  readonly #outcomes: Outcomes
  readonly #entries: Int32Array
  /** By block: the tier it is read from, -1 where the group does not need the block. */
  readonly #sources: Int8Array
  /** By block: whether the device copy is pinned for the caller (owned device memory). */
  readonly #device: Uint8Array
  #pins: number[] = []

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
    this.#sources = new Int8Array(match.blocks).fill(-1)
    this.#device = new Uint8Array(match.blocks)
  }

  #pin(entry: number, tier: number): void {
    this.#tiers.blocks.pin(entry, tier)
    this.#pins.push(entry, tier)
  }

  /** Holds every block where it will be read from. */
  pinSources(): void {
    const { blocks } = this.#tiers
    this.#entries.forEach((entry, i) => {
      if (entry < 0) return
      const tier = this.#sourceOf(entry)
      if (blocks.holds(entry, tier)) {
        this.#sources[i] = tier
        this.#pin(entry, tier)
      } else {
        this.#outcomes.fail(i, 'ERR_KV_OUT_OF_BLOCKS', 'The block is only in device memory.')
      }
    })
    const used = this.#entries.filter((entry) => entry >= 0)
    blocks.touch(used, used.length, this.#context.nextTick())
  }

  #sourceOf(entry: number): number {
    const tier = nearestTier(this.#tiers, entry)
    if (tier !== DEVICE || this.#plan.to === 'device') return tier
    return this.#tiers.blocks.holds(entry, HOST) ? HOST : DISK
  }

  releasePins(): void {
    const pins = this.#pins
    this.#pins = []
    for (let i = 0; i < pins.length; i += 2) this.#tiers.blocks.unpin(pins[i] ?? -1, pins[i + 1] ?? 0)
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
    if (!toHost && this.#plan.into === null) this.#takeDeviceSlots([...fromHost, ...fromDisk])
    const legs: Leg[] = []
    const usable = (i: number): boolean => this.#outcomes.codes[i] === CODE.OK
    for (const positions of batches(fromHost.filter(usable))) {
      legs.push({ path: 'memoryToMemory', from: HOST, positions, via: [] })
    }
    for (const positions of batches(fromDisk.filter(usable))) {
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
    for (const i of positions) {
      const slot = slots.shift()
      if (slot === undefined) this.#outcomes.fail(i, 'ERR_KV_OUT_OF_BLOCKS', 'Every device slot is pinned.')
      else blocks.assign(this.#entries[i] ?? -1, DEVICE, slot)
    }
    giveBackRoom(this.#tiers, DEVICE, slots)
  }

  /** Host slots that keep a copy of what comes from disk; where there is no room now, a staging buffer must do. */
  #takeVia(positions: readonly number[], needed: boolean): number[] {
    const { blocks } = this.#tiers
    const slots = takeRoomNow(this.#context, this.#tiers, HOST, positions.length, this.#plan.tenant)
    const via: number[] = []
    for (const i of positions) {
      const slot = slots.shift()
      if (slot !== undefined) blocks.assign(this.#entries[i] ?? -1, HOST, slot)
      else if (needed) {
        this.#outcomes.fail(i, 'ERR_KV_OUT_OF_BLOCKS', 'The host tier has no slot that can be evicted now.')
        continue
      }
      via.push(slot ?? NO_SLOT)
    }
    giveBackRoom(this.#tiers, HOST, slots)
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
    const moves = new Uint32Array(leg.positions.length * 3)
    leg.positions.forEach((i, at) => {
      const toHost = this.#plan.to === 'host'
      const via = toHost ? NO_SLOT : (leg.via[at] ?? NO_SLOT)
      moves.set([blocks.slotOf(entries[at] ?? -1, leg.from), via, this.#targetSlot(i)], at * 3)
    })
    let native: ReturnType<typeof startBatch>
    try {
      native = startBatch(context.completions, leg.positions.length, (ticket) =>
        context.binding.startTransfer(ticket, {
          path: leg.path,
          onboard: true,
          source: storageOf(this.#tiers, leg.from as 1 | 2),
          via: leg.path === 'slabToMemoryVia' ? storageOf(this.#tiers, HOST) : null,
          target: storageOf(this.#tiers, this.#plan.to === 'host' ? HOST : DEVICE),
          moves,
          hashes: hashBytes(this.#plan.hashes.words, leg.positions),
          parents: null,
          records: null,
        }),
      )
    } catch (error) {
      const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
      leg.positions.forEach((i, at) => {
        this.#outcomes.fail(i, code, error instanceof Error ? error.message : '')
        this.#abandonTargets(entries[at] ?? -1)
      })
      context.counters.transferFailures += leg.positions.length
      return
    }
    const endPending = markPending(context, this.#tiers, entries)
    // What is not published must not be used again before native code has let go of it.
    const failed: number[] = []
    const corrupt: number[] = []
    for (const entry of entries) blocks.pin(entry, leg.from)
    const settled = native.settled.then(async () => {
      for (const entry of failed) this.#abandonTargets(entry)
      endPending()
      await this.#eraseCorrupt(leg, entries, corrupt)
      for (const entry of entries) blocks.unpin(entry, leg.from)
    })
    this.#control.adopt(native.ticket, settled)
    const result = await native.done
    leg.positions.forEach((i, at) => {
      const entry = entries[at] ?? -1
      const code = result.codes[at] ?? CODE.ERR_KV_INTERNAL
      if (code === CODE.OK) this.#arrived(i, entry, leg)
      else {
        failed.push(entry)
        if (code === CODE.ERR_KV_CHECKSUM) corrupt.push(entry)
        this.#outcomes.fail(i, ERROR_CODES[code] as ErrorCode, result.message)
      }
    })
    this.#count(leg, result.codes, corrupt.length, result.message)
    for (const entry of corrupt) this.#lose(entry)
    if (failed.length === 0) endPending()
  }

  /** The block is where it was asked to be; its new copies become visible. */
  #arrived(i: number, entry: number, leg: Leg): void {
    const { blocks } = this.#tiers
    if (leg.from === DISK && blocks.isFilling(entry, HOST)) {
      if (blocks.publish(entry, HOST)) {
        if (this.#plan.to === 'host') this.#pin(entry, HOST)
      } else {
        blocks.abandon(entry, HOST)
        if (this.#plan.to === 'host') {
          this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', LOST_MEANWHILE)
          return
        }
      }
    }
    if (this.#plan.to === 'device' && this.#plan.into === null) {
      if (!blocks.publish(entry, DEVICE)) {
        blocks.abandon(entry, DEVICE)
        this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', LOST_MEANWHILE)
        return
      }
      blocks.pin(entry, DEVICE)
      this.#device[i] = 1
    }
    this.#outcomes.bytes += this.#tiers.blockBytes
  }

  #abandonTargets(entry: number): void {
    const { blocks } = this.#tiers
    if (blocks.isFilling(entry, HOST)) blocks.abandon(entry, HOST)
    if (blocks.isFilling(entry, DEVICE)) blocks.abandon(entry, DEVICE)
  }

  #count(leg: Leg, codes: Uint8Array, corrupt: number, message: string): void {
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
    if (this.#control.code !== null) counters.abandoned += failed - corrupt
    else if (failed > corrupt) {
      counters.transferFailures += failed - corrupt
      events.emit('tierFailed', { tier: leg.from === DISK ? 'disk' : 'host', code: 'ERR_KV_IO', message })
    }
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
    for (let i = 0; i < this.#sources.length; i++) {
      const source = this.#sources[i] ?? -1
      const entry = this.#entries[i] ?? -1
      if (source === DEVICE && this.#tiers.blocks.isLost(entry)) {
        this.#outcomes.fail(i, 'ERR_KV_PARENT_LOST', 'A block before it was lost meanwhile.')
      } else if (source === DEVICE && this.#outcomes.codes[i] === CODE.OK) {
        this.#tiers.blocks.pin(entry, DEVICE)
        this.#device[i] = 1
        this.#context.counters.onboardedFromDevice++
      }
      // A block that the group does not need (outside its window) is as good as one on the device.
      this.#outcomes.succeed(i, source < 0 ? DEVICE : source, further)
    }
  }

  /** Whether this group needed, and so has, all that it needs for a prefix of `count` blocks, which all arrived. */
  covers(count: number): boolean {
    if (this.#tiers.blocks.prefixClosed) return true
    const first = firstNeeded(this.#tiers, count, this.#context.tokensPerBlock)
    for (let i = first; i < count; i++) if ((this.#sources[i] ?? -1) < 0) return false
    return true
  }

  /** Hands the first `count` device copies to the caller; the others' pins end here. */
  takeDevice(count: number): { slots: Uint32Array; entries: Int32Array } {
    const slots = new Uint32Array(count).fill(NO_SLOT)
    const entries = new Int32Array(count).fill(-1)
    this.#device.forEach((pinned, i) => {
      if (pinned === 0) return
      const entry = this.#entries[i] ?? -1
      if (i >= count) this.#tiers.blocks.unpin(entry, DEVICE)
      else {
        slots[i] = this.#tiers.blocks.slotOf(entry, DEVICE)
        entries[i] = entry
      }
    })
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
