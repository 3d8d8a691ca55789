/**
 * The block manager: opens the tiers, makes sequences, and closes everything in order. What moves blocks is in
 * `movement/`.
 */
import { GroupBlocks } from './blocks/group-blocks.js'
import { flag, integer, KvError, optionsOf } from './errors.js'
import { Events, type ManagerEvents } from './events.js'
import { fingerprintOf } from './identity/fingerprint.js'
import {
  blockBytesOfShape,
  defineLayout,
  groupShapeOf,
  type ModelLayout,
  slotBytesOf,
  slotBytesOfShape,
} from './identity/model-layout.js'
import { saltOf, type Tenant, tenantTag } from './identity/salt.js'
import { type ExtraKey, type ExtraKeyAt, SequenceHashes, type Tokens } from './identity/sequence-hashes.js'
import { makeTokenHasher, type TokenHasher } from './identity/token-hasher.js'
import { BorrowedSlots } from './movement/borrowed-slots.js'
import type { GroupTiers, MovementContext } from './movement/context.js'
import { DeviceAccess } from './movement/device-access.js'
import { DiskWriter } from './movement/disk-writer.js'
import { type FlushOptions, flushToDisk } from './movement/flush.js'
import { HostAccess } from './movement/host-access.js'
import { whileItGoesOn } from './movement/patience.js'
import { checkLimits, LIMIT_OPTIONS, Sequence } from './movement/sequence.js'
import { settleThen, TransferControl, type TransferLimits } from './movement/transfer.js'
import type { Binding, OpenedStore, SlabContents, StoreHandle } from './native/binding.js'
import { binding } from './native/binding.js'
import { type Completions, completions } from './native/completions.js'
import { type ManagerOptions, type ResolvedOptions, resolveOptions } from './options.js'
import { type Counters, type ManagerStats, type TierStats, zeroCounters } from './stats.js'
import { closeHandles } from './tiers/close.js'
import { openDeviceTier, ordinalsOf } from './tiers/device.js'
import { type DiskTier, openDiskTier, openStore } from './tiers/disk.js'
import { openHostTier } from './tiers/host.js'
import { DEVICE, DISK, HOST, NO_TIER, type TierNumber, type TierSlots } from './tiers/types.js'

/** What `manager.sequence` takes besides the tokens. */
export interface SequenceOptions {
  /** Whose blocks they are: no other tenant ever sees them, or can tell that they are held. `SHARED` must be spelled out. */
  readonly tenant: Tenant
  /** 0 to 100; blocks of a higher priority leave later (default 50). */
  readonly priority?: number
  /**
   * Milliseconds that a stored block lives, counted in whole seconds (default 0: until it is evicted). A block that is
   * stored again lives as long as the longer of both asks, and has the larger priority of both. A copy on disk keeps what
   * held when it was written: after a restart a block never lives longer than a store has asked, but may end earlier than
   * the last one did.
   */
  readonly ttlMs?: number
  /** What changes every block's KV, a LoRA adapter for example. */
  readonly extraKeys?: readonly ExtraKey[]
  /** What changes the KV from one token on, images for example. */
  readonly extraKeysAt?: readonly ExtraKeyAt[]
}

/** What `close` takes. */
export interface CloseOptions {
  /** Write host blocks that are not on disk first (default: the option `flushOnClose`). */
  readonly flush?: boolean
  /**
   * Milliseconds to wait for transfers before they are ended (default 10,000). A write that has not made progress for as
   * long is ended, too (0: for as long as the manager's deadline says).
   */
  readonly deadlineMs?: number
}

const SEQUENCE_OPTIONS: readonly (keyof SequenceOptions)[] = ['tenant', 'priority', 'ttlMs', 'extraKeys', 'extraKeysAt']
const FLUSH_OPTIONS: readonly (keyof FlushOptions)[] = ['sync', ...LIMIT_OPTIONS]
const CLOSE_OPTIONS: readonly (keyof CloseOptions)[] = ['flush', 'deadlineMs']
const ADOPT_SLICE = 32_768
/** How long, beyond the deadline of each of its parts, closing waits for a disk to answer. */
const ANSWER_MS = 5000
const TTL_MOST_MS = 10 * 365 * 24 * 3600 * 1000

/**
 * Keeps KV blocks beyond GPU memory: one model, one set of tiers. Belongs to the JavaScript environment (thread) that
 * opened it.
 *
 * @example
 * ```ts
 * await using manager = await BlockManager.open({ layout, model: 'my-model', host: { capacityBytes: 8 * GiB } })
 * const sequence = manager.sequence(tokens, { tenant: 'acme' })
 * console.log(sequence.match().tokens)
 * ```
 */
export class BlockManager {
  /** Host slots for callers without device pointers. */
  readonly host: HostAccess
  /** Owned device memory. */
  readonly device: DeviceAccess
  /** The KV's shape, checked and frozen. */
  readonly layout: ModelLayout
  readonly #options: ResolvedOptions
  readonly #fingerprint: Uint8Array
  readonly #secret: Uint8Array
  readonly #context: MovementContext
  readonly #events: Events
  readonly #counters: Counters
  readonly #store: StoreHandle | null
  readonly #diskOpenMs: number
  readonly #diskToDevice: ManagerStats['diskToDevice']
  readonly #hasher: TokenHasher
  readonly #active = new Map<TransferControl, Promise<void>>()
  readonly #onClosing = new Set<() => void>()
  #closing: Promise<void> | null = null
  #partsClosed = 0

  /** @internal Use {@link BlockManager.open}. */
  constructor(parts: OpenedParts) {
    this.layout = parts.layout
    this.#options = parts.options
    this.#fingerprint = parts.fingerprint
    this.#secret = parts.secret
    this.#events = new Events()
    this.#counters = zeroCounters()
    this.#counters.recovered = parts.recovered
    this.#counters.recordsUnreadable = parts.recordsUnreadable
    this.#store = parts.store
    this.#diskOpenMs = parts.diskOpenMs
    this.#diskToDevice = parts.diskToDevice
    this.#hasher = makeTokenHasher(parts.binding, (start) => parts.completions.call(start))
    let tick = 0
    const context: MovementContext = {
      binding: parts.binding,
      completions: parts.completions,
      groups: parts.groups,
      tokensPerBlock: parts.layout.tokensPerBlock,
      counters: this.#counters,
      events: this.#events,
      diskWriter: new DiskWriter(() => context),
      device: { ordinals: ordinalsOf(parts.groups.map((group) => group.tiers[DEVICE])), failure: null },
      leaveLastBlock: parts.options.leaveLastBlock,
      deadlineMs: parts.options.deadlineMs,
      now: () => Date.now(),
      nextTick: () => ++tick,
      pending: new Map(),
      mistakes: { overwritten: 0 },
      checkOpen: () => this.#checkOpen(),
    }
    this.#context = context
    const active = { add: (control: TransferControl) => this.#track(control) }
    this.host = new HostAccess(context, active)
    this.device = new DeviceAccess(context)
  }

  /**
   * Opens the tiers: allocates and touches host memory, preallocates the disk tier, and finds what a former process left
   * there.
   *
   * @throws KvError ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE, ERR_KV_UNKNOWN_POLICY, ERR_KV_UNSUPPORTED,
   * ERR_KV_CAPACITY_TOO_SMALL, ERR_KV_OUT_OF_MEMORY, ERR_KV_ADDON_MISSING; for a GPU's memory also ERR_KV_DEVICE_LOST and
   * ERR_KV_IO (ERR_KV_UNSUPPORTED where no GPU can be used); for the disk tier ERR_KV_NOT_A_DIRECTORY,
   * ERR_KV_NOT_WRITABLE, ERR_KV_UNSAFE_DIRECTORY, ERR_KV_LOCKED, ERR_KV_NO_SPACE, ERR_KV_LAYOUT_MISMATCH, ERR_KV_IO.
   * Nothing stays open when it throws.
   */
  static async open(options: ManagerOptions): Promise<BlockManager> {
    return new BlockManager(await openParts(resolveOptions(options)))
  }

  /**
   * Starts a sequence: the identity of a prompt's blocks. Costs a copy of the tokens; they are hashed when needed.
   *
   * @throws KvError ERR_KV_CLOSED, ERR_KV_INVALID_TOKEN, ERR_KV_DETACHED_ARRAY, ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE
   */
  sequence(tokens: Tokens, options: SequenceOptions): Sequence {
    this.#checkOpen()
    optionsOf('options', options, SEQUENCE_OPTIONS)
    const salt = saltOf(this.#secret, options.tenant)
    const hashes = new SequenceHashes({
      fingerprint: this.#fingerprint,
      salt,
      tokensPerBlock: this.layout.tokensPerBlock,
      hasher: this.#hasher,
      ...(options.extraKeys === undefined ? {} : { extraKeys: options.extraKeys }),
      ...(options.extraKeysAt === undefined ? {} : { extraKeysAt: options.extraKeysAt }),
    })
    hashes.append(tokens)
    const meta = {
      tenant: tenantTag(salt),
      priority: integer('priority', options.priority ?? 50, 0, 100),
      ttlMs: integer('ttlMs', options.ttlMs ?? 0, 0, TTL_MOST_MS),
    }
    return new Sequence(this.#context, hashes, meta, { add: (control) => this.#track(control) })
  }

  /**
   * Writes every host block that is not on disk. Without a disk tier it does nothing. What is not written when it is ended
   * stays in host memory.
   *
   * @returns how many blocks were written
   * @throws KvError ERR_KV_CLOSED; ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the option; ERR_KV_IO when `sync`
   * failed; ERR_KV_DEADLINE, ERR_KV_ABORTED or ERR_KV_CLOSED when it was ended before `sync` was done
   */
  async flush(options: FlushOptions = {}): Promise<number> {
    this.#checkOpen()
    const given = optionsOf('options', options, FLUSH_OPTIONS)
    const sync = flag('sync', given.sync, false)
    const limits = checkLimits(given)
    return await this.#flush(sync, limits, limits.deadlineMs ?? this.#context.deadlineMs)
  }

  /** Counters and the state of every tier, now. */
  stats(): ManagerStats {
    return {
      counters: { ...this.#counters },
      tiers: {
        device: this.#tierStats(DEVICE),
        host: this.#tierStats(HOST),
        disk: this.#tierStats(DISK),
      },
      diskOpenMs: this.#diskOpenMs,
      diskToDevice: this.#diskToDevice,
    }
  }

  /** @internal What connectors work with beside the public names. */
  get internals(): {
    readonly context: MovementContext
    readonly fingerprint: Uint8Array
    /** Calls `listener` when the manager is closed, at once where it was; returns what ends that. */
    onClosing(listener: () => void): () => void
  } {
    const onClosing = (listener: () => void): (() => void) => {
      if (this.#closing !== null) listener()
      this.#onClosing.add(listener)
      return () => this.#onClosing.delete(listener)
    }
    return { context: this.#context, fingerprint: this.#fingerprint, onClosing }
  }

  /** @internal Throws where the accounting of a layer group is broken, naming it; for tests. */
  checkAccounting(): void {
    for (const tiers of this.#context.groups) tiers.blocks.check()
  }

  /**
   * Calls `listener` at every event of that name.
   *
   * @throws KvError ERR_KV_INVALID_VALUE for a name that no event has; ERR_KV_INVALID_TYPE
   */
  on<K extends keyof ManagerEvents>(name: K, listener: (event: ManagerEvents[K]) => void): this {
    this.#events.on(name, listener)
    return this
  }

  /**
   * Stops calling `listener`.
   *
   * @throws KvError as {@link on}
   */
  off<K extends keyof ManagerEvents>(name: K, listener: (event: ManagerEvents[K]) => void): this {
    this.#events.off(name, listener)
    return this
  }

  /**
   * Refuses new calls, waits for transfers (and ends those that outlast the deadline), writes what should survive, and
   * gives memory, files and lock back. Calling it again returns the same promise. Where a disk does not answer it rejects
   * in the end, and gives them back when the disk does; the process stays alive until then, or until it exits.
   *
   * @throws KvError ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE naming the option (the manager stays open then); what
   * closing a tier failed with, when everything else is closed; ERR_KV_DEADLINE when a disk does not answer
   */
  close(options: CloseOptions = {}): Promise<void> {
    if (this.#closing !== null) return this.#closing
    try {
      const given = optionsOf('options', options, CLOSE_OPTIONS)
      const flush = flag('flush', given.flush, this.#options.flushOnClose)
      const deadlineMs = integer('deadlineMs', given.deadlineMs ?? 10_000, 0, 0x7fffffff)
      this.#closing = this.#close(flush, deadlineMs)
      for (const listener of [...this.#onClosing]) listener()
      return this.#closing
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw new KvError('ERR_KV_CLOSED', 'The block manager was closed; open a new one.')
  }

  #track(control: TransferControl): () => void {
    let end: () => void = () => undefined
    this.#active.set(
      control,
      new Promise((resolve) => {
        end = resolve
      }),
    )
    return () => {
      this.#active.delete(control)
      end()
    }
  }

  async #flush(sync: boolean, limits: TransferLimits, deadlineMs: number): Promise<number> {
    const control = new TransferControl(this.#context.completions, limits, deadlineMs)
    const forget = this.#track(control)
    try {
      return await flushToDisk(this.#context, sync, control)
    } finally {
      void settleThen(control, forget)
    }
  }

  async #close(flush: boolean, deadlineMs: number): Promise<void> {
    // As long again for writing, for each part of it, and never without end.
    const flushMs = deadlineMs === 0 ? this.#context.deadlineMs : deadlineMs
    await whileItGoesOn(
      this.#closeParts(flush ? flushMs : null, deadlineMs),
      Math.max(deadlineMs, flushMs) + ANSWER_MS,
      () => this.#partsClosed + this.#counters.diskWrites + this.#counters.transferFailures,
      () =>
        new KvError(
          'ERR_KV_DEADLINE',
          'The disk does not answer. Memory, files and the lock on the directory are given back when it does.',
        ),
    )
  }

  /** @param flushMs - how long each part of writing may take; null = nothing is to be written */
  async #closeParts(flushMs: number | null, deadlineMs: number): Promise<void> {
    this.host.releaseAll()
    const timer = setTimeout(() => {
      for (const control of this.#active.keys()) control.cancel('ERR_KV_CLOSED')
      this.#context.diskWriter.cancel('ERR_KV_CLOSED')
    }, deadlineMs)
    while (this.#active.size > 0) await Promise.all(this.#active.values())
    clearTimeout(timer)
    this.#partsClosed++
    if (flushMs !== null) await this.#flush(false, {}, flushMs)
    await this.#context.diskWriter.idle()
    this.#partsClosed++
    await closeHandles(
      this.#context.binding,
      this.#context.completions,
      this.#context.groups.flatMap((tiers) => tiers.tiers),
      this.#store,
    )
  }

  #tierStats(tier: TierNumber): TierStats {
    const failure = tier === DEVICE ? (this.#context.device.failure?.code ?? null) : null
    const sums = { slots: 0, held: 0, pinned: 0, filling: 0, free: 0, capacityBytes: 0, failure }
    for (const tiers of this.#context.groups) {
      if (!tiers.tiers[tier].accounted) continue
      const counts = tiers.blocks.counts(tier)
      sums.slots += counts.slots
      sums.held += counts.held
      sums.pinned += counts.pinned
      sums.filling += counts.filling
      sums.free += counts.free
      sums.capacityBytes += counts.slots * slotBytesOfShape(tiers.shape)
    }
    return sums
  }
}

/** What {@link BlockManager} is made from. */
interface OpenedParts {
  readonly layout: ModelLayout
  readonly options: ResolvedOptions
  readonly fingerprint: Uint8Array
  readonly secret: Uint8Array
  readonly binding: Binding
  readonly completions: Completions
  readonly groups: readonly GroupTiers[]
  readonly store: StoreHandle | null
  readonly recovered: number
  readonly recordsUnreadable: number
  readonly diskOpenMs: number
  readonly diskToDevice: ManagerStats['diskToDevice']
}

async function openParts(options: ResolvedOptions): Promise<OpenedParts> {
  const layout = defineLayout(options.layout)
  const { name, ...identity } = options.model
  const fingerprint = fingerprintOf({ ...identity, model: name, layout })
  const done = completions()
  binding.openEngine(options.engine)
  const opened: TierSlots[] = []
  let store: OpenedStore | null = null
  try {
    if (options.disk !== null) store = await openStore(binding, done, options.disk, fingerprint)
    const device = await openDeviceTier(binding, done, layout, options.device, opened)
    const pinFor = ordinalsOf(device)[0] ?? null
    const host = await openHostTier(binding, done, layout, options.hostBytes, pinFor, opened)
    const started = performance.now()
    let disk: DiskTier | null = null
    if (options.disk !== null && store !== null) {
      disk = await openDiskTier(binding, done, layout, options.disk, store, device, opened)
    }
    const groups = layout.groups.map((_, index) => groupTiers(options, layout, index, device, host, disk))
    const secret = options.secret ?? store?.secret ?? crypto.getRandomValues(new Uint8Array(32))
    // Before the tiers have blocks: setting a quota looks for the tenant's.
    for (const tiers of groups) applyQuotas(options.quotas, secret, slotBytesOf(layout), tiers)
    for (const [index, contents] of (disk?.contents ?? []).entries()) await adopt(groups[index], contents)
    return {
      layout,
      options,
      fingerprint,
      secret,
      binding,
      completions: done,
      groups,
      store: store?.store ?? null,
      recovered: (disk?.contents ?? []).reduce((sum, contents) => sum + contents.slots.length, 0),
      recordsUnreadable: (disk?.contents ?? []).reduce((sum, contents) => sum + contents.recordsUnreadable, 0),
      diskOpenMs: disk === null ? 0 : performance.now() - started,
      diskToDevice: disk?.toDevice[0] ?? null,
    }
  } catch (error) {
    // Why it could not be opened is what the caller needs, whatever closing says.
    await closeHandles(binding, done, opened, store?.store ?? null).catch(() => undefined)
    throw error
  }
}

function groupTiers(
  options: ResolvedOptions,
  layout: ModelLayout,
  index: number,
  device: readonly TierSlots[],
  host: readonly TierSlots[],
  disk: DiskTier | null,
): GroupTiers {
  const group = layout.groups[index]
  if (group === undefined) throw new KvError('ERR_KV_INTERNAL', `Layer group ${index} was asked for.`)
  const tiers = [device[index] ?? NO_TIER, host[index] ?? NO_TIER, disk?.tiers[index] ?? NO_TIER] as const
  const shape = groupShapeOf(group, layout.tokensPerBlock)
  return {
    index,
    group,
    shape,
    blockBytes: blockBytesOfShape(shape),
    blocks: new GroupBlocks({
      tiers: tiers.map((tier) => ({ slotCount: tier.accounted ? tier.slotCount : 0 })),
      policy: options.evictionPolicy,
      prefixClosed: group.kind === 'full' || group.kind === 'latent',
    }),
    tiers,
    borrowed:
      tiers[DEVICE].storage !== null && !tiers[DEVICE].accounted
        ? new BorrowedSlots(tiers[DEVICE].slotCount, group.name)
        : null,
    inHand: new Map(),
  }
}

/** Takes over what the disk holds, a slice at a time so that the event loop breathes. */
async function adopt(tiers: GroupTiers | undefined, contents: SlabContents): Promise<void> {
  if (tiers === undefined) return
  for (let at = 0; at < contents.slots.length; at += ADOPT_SLICE) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve))
    tiers.blocks.adopt(contents, at, Math.min(at + ADOPT_SLICE, contents.slots.length), DISK)
  }
}

/** @param slotBytes - of every layer group together: a quota, like a capacity, buys the same number of each */
function applyQuotas(
  quotas: ResolvedOptions['quotas'],
  secret: Uint8Array,
  slotBytes: number,
  tiers: GroupTiers,
): void {
  const share = (bytes: number | undefined): number =>
    bytes === undefined ? Number.POSITIVE_INFINITY : Math.floor(bytes / slotBytes)
  for (const [tenant, quota] of Object.entries(quotas)) {
    const tag = tenantTag(saltOf(secret, tenant))
    tiers.blocks.setQuota(tag, HOST, share(quota.hostBytes))
    if (tiers.tiers[DISK].storage !== null) tiers.blocks.setQuota(tag, DISK, share(quota.diskBytes))
  }
}
