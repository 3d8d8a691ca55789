/**
 * What the model test knows and does: a real manager on a real directory, and beside it a plain record of what was ever
 * stored. The model does not predict evictions; it knows what may never happen: a block that was not stored, a byte that
 * is wrong, a block lost whose outcome was `disk` although nothing was evicted, a slot that leaks.
 */
import { closeSync, cpSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BlockManager } from '../../lib/block-manager.ts'
import { PatternEngine } from '../../lib/cli/pattern-engine.ts'
import { isKvError } from '../../lib/errors.ts'
import { blockBytesOf, defineLayout, type ModelLayout } from '../../lib/identity/model-layout.ts'
import type { DevicePin } from '../../lib/movement/device-slots.ts'
import { type Fence, fence } from '../../lib/movement/fence.ts'
import type { OffloadOptions, Sequence } from '../../lib/movement/sequence.ts'
import { binding } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { ownedDevice } from '../support/device-kind.ts'
import type { EngineSlots } from './engine-slots.ts'

/** Sizes of one run; small ones force every eviction path, ample ones allow exact claims. */
export interface WorldShape {
  readonly deviceSlots: number
  readonly hostBlocks: number
  readonly diskBlocks: number
  readonly policy: string
  /** Makes the engine's own memory of the world's layout, which the manager borrows; otherwise it owns device memory. */
  readonly lend?: (layout: ModelLayout, slots: number) => EngineSlots
}

const TOKENS = 2
export const CHAINS = 7
export const CHAIN_BLOCKS = 6

const layout = defineLayout({
  tokensPerBlock: TOKENS,
  dtype: 'test',
  groups: [{ name: 'full', kind: 'full', layers: 2, bytesPerToken: 512 }],
})
const STRIDE = Math.ceil(blockBytesOf(layout) / 4096) * 4096

/** Chains share prefixes: chain c has its first c % 4 blocks in common with every chain of the same c % 2. */
export function tokensOf(chain: number, blocks: number): Uint32Array {
  const tokens = new Uint32Array(blocks * TOKENS)
  for (let i = 0; i < tokens.length; i++) {
    const block = Math.floor(i / TOKENS)
    tokens[i] = block < chain % 4 ? (chain % 2) * 1000 + i : (chain + 2) * 1000 + i
  }
  return tokens
}

function keysOf(sequence: Sequence): string[] {
  const bytes = Buffer.from(sequence.hashes.bytes)
  return Array.from({ length: sequence.blockCount }, (_, i) => bytes.subarray(i * 32, i * 32 + 32).toString('hex'))
}

export class World {
  readonly shape: WorldShape
  directory: string
  manager!: BlockManager
  engine!: PatternEngine
  readonly everStored = new Set<string>()
  /** Blocks whose outcome named `disk`, while nothing was evicted or damaged since. */
  onDisk = new Set<string>()
  /** Blocks that host memory or disk held for sure, while nothing was evicted, damaged or killed since. */
  held = new Set<string>()
  pins: DevicePin[] = []
  verified = 0
  /** Operations under way: beside others, one may find every device slot pinned. */
  #underWay = 0
  #damaged = false
  /** The engine's slots, where the manager borrows them. */
  readonly #lent: EngineSlots | null

  constructor(shape: WorldShape) {
    this.shape = shape
    this.#lent = shape.lend?.(layout, shape.deviceSlots) ?? null
    this.directory = mkdtempSync(join(tmpdir(), 'kvtier-model-'))
  }

  async open(): Promise<void> {
    this.manager = await BlockManager.open({
      layout,
      model: 'model-test',
      device: this.#lent?.device ?? ownedDevice(this.shape.deviceSlots, 'layersKvOuter'),
      host: { capacityBytes: this.shape.hostBlocks * STRIDE },
      disk: { directory: this.directory, capacityBytes: this.shape.diskBlocks * (STRIDE + 128) },
      leaveLastBlock: false,
      evictionPolicy: this.shape.policy,
    })
    this.engine = new PatternEngine(this.manager)
  }

  sequence(chain: number, blocks: number): Sequence {
    return this.manager.sequence(tokensOf(chain, blocks), { tenant: 'model' })
  }

  /** Nothing that was known to be held is known any more: something may have left. */
  forgetClaims(): void {
    this.held.clear()
    this.onDisk.clear()
  }

  /** Forgets claims when the counters show that blocks left. */
  #noteEvictions(): void {
    const { counters } = this.manager.stats()
    if (counters.evictedFromDisk > 0 || counters.lost > 0 || this.#damaged) this.forgetClaims()
  }

  async #counted(run: (alone: () => boolean) => Promise<void>): Promise<void> {
    let alone = this.#underWay === 0
    this.#underWay++
    try {
      await run(() => {
        alone &&= this.#underWay === 1
        return alone && this.pins.length === 0
      })
    } finally {
      this.#underWay--
    }
  }

  /** Onboards, checks every byte and every claim; with `keep` the pin stays. */
  async onboard(chain: number, blocks: number, signal?: AbortSignal, keep = false): Promise<void> {
    await this.#counted(async (alone) => {
      if (this.#lent === null) return await this.#onboard(chain, blocks, signal, keep, alone, null)
      const lent = this.#lent
      await lent.use(blocks, async (into) => {
        // What the slots held before is still being written.
        await this.#onboard(chain, blocks, signal, false, alone, { into, after: lent.spoil(into) })
      })
    })
  }

  async #onboard(
    chain: number,
    blocks: number,
    signal: AbortSignal | undefined,
    keep: boolean,
    alone: () => boolean,
    borrowed: { readonly into: Uint32Array; readonly after: Fence } | null,
  ): Promise<void> {
    const sequence = this.sequence(chain, blocks)
    const load = sequence.onboard({
      after: fence.quiet(),
      ...(borrowed ?? {}),
      ...(signal === undefined ? {} : { signal }),
    })
    alone()
    const result = await load.done
    await load.settled
    const keys = keysOf(sequence)
    const count = borrowed === null ? (result.pin?.blockCount ?? 0) : result.tokens / TOKENS
    for (const key of keys.slice(0, count)) {
      if (!this.everStored.has(key)) throw new Error(`chain ${chain}: a block was onboarded that was never stored`)
    }
    const slots = borrowed === null ? result.pin?.slots() : borrowed.into.subarray(0, count)
    if (count > 0 && slots !== undefined) {
      const { verified, wrong } = await this.engine.check(slots.slice(), sequence.hashes.bytes.slice(0, count * 32))
      this.verified += verified
      if (wrong > 0) throw new Error(`chain ${chain}: ${wrong} of ${count} onboarded blocks have wrong bytes`)
    }
    this.#noteEvictions()
    let sure = 0
    while (sure < keys.length && this.held.has(keys[sure] ?? '')) sure++
    if (signal === undefined && alone() && count < Math.min(sure, this.shape.deviceSlots)) {
      throw new Error(`chain ${chain}: ${sure} blocks must be held, ${count} came: ${result.message}`)
    }
    if (keep && result.pin !== null && count > 0) this.pins.push(result.pin)
    else result.pin?.release()
  }

  /** Computes a chain's blocks and offloads them. */
  async offload(chain: number, blocks: number, until: 'host' | 'disk', signal?: AbortSignal): Promise<void> {
    await this.#counted((alone) => this.#offload(chain, blocks, until, signal, alone))
  }

  async #offload(
    chain: number,
    blocks: number,
    until: 'host' | 'disk',
    signal: AbortSignal | undefined,
    alone: () => boolean,
  ): Promise<void> {
    const sequence = this.sequence(chain, blocks)
    await sequence.prepare()
    const lent = this.#lent
    if (lent !== null) {
      // Half of the slots are where the engine makes the blocks that its stream then brings to the others.
      await lent.use(blocks * 2, async (all) => {
        const [made, from] = [all.slice(0, blocks), all.slice(blocks)]
        await this.engine.compute(made, sequence.hashes.bytes.slice())
        await this.#store(sequence, chain, { from, after: lent.copy(made, from) }, until, signal, alone)
        lent.spoil(from)
      })
      return
    }
    const free = this.manager.stats().tiers.device
    if (free.slots - free.pinned - free.filling < blocks) return
    const fresh = this.manager.device.reserve(blocks)
    await this.engine.compute(fresh.slots(), sequence.hashes.bytes.slice())
    await this.#store(sequence, chain, { from: fresh, after: fence.quiet() }, until, signal, alone)
    fresh.release()
    this.#noteEvictions()
  }

  async #store(
    sequence: Sequence,
    chain: number,
    stored: Pick<OffloadOptions, 'from' | 'after'>,
    until: 'host' | 'disk',
    signal: AbortSignal | undefined,
    alone: () => boolean,
  ): Promise<void> {
    const keys = keysOf(sequence)
    for (const key of keys) this.everStored.add(key)
    const store = sequence.offload({
      ...stored,
      until,
      ...(signal === undefined ? {} : { signal }),
    })
    const result = await store.done
    await store.settled
    this.#noteEvictions()
    for (let i = 0; i < keys.length; i++) {
      if (result.tier(i) !== 'none') this.held.add(keys[i] ?? '')
      if (result.tier(i) === 'disk') this.onDisk.add(keys[i] ?? '')
      if (signal === undefined && result.code(i) !== 'OK' && alone() && this.shape.hostBlocks > 64) {
        throw new Error(`chain ${chain}: block ${i} was refused with ${result.code(i)} although there is room`)
      }
    }
    this.#noteEvictions()
  }

  /**
   * Offloads a chain in two parts of one reservation, and computes another chain over it before the release: what was
   * offloaded must stay right, whoever reads it.
   */
  async overwrite(chain: number, other: number, blocks: number, split: number): Promise<void> {
    const { slots, pinned, filling } = this.manager.stats().tiers.device
    if (slots - pinned - filling < blocks) return
    const fresh = this.manager.device.reserve(blocks)
    const sequence = this.sequence(chain, blocks)
    await sequence.prepare()
    await this.engine.compute(fresh.slots(), sequence.hashes.bytes.slice())
    for (const key of keysOf(sequence)) this.everStored.add(key)
    const first = Math.min(split, blocks)
    for (const [from, to] of [
      [0, first],
      [first, blocks],
    ] as const) {
      if (from === to) continue
      const part = { firstBlock: from, fromOffset: from, blockCount: to - from }
      await sequence.offload({ from: fresh, after: fence.quiet(), ...part }).settled
    }
    const second = this.sequence(other, blocks)
    await second.prepare()
    await this.engine.compute(fresh.slots(), second.hashes.bytes.slice())
    const isSame = Buffer.from(second.hashes.bytes).equals(Buffer.from(sequence.hashes.bytes))
    let refused = false
    try {
      await second.offload({ from: fresh, after: fence.quiet() }).settled
    } catch (error) {
      if (!isKvError(error, 'ERR_KV_SLOT_REPEATED')) throw error
      refused = true
    }
    if (refused === isSame) throw new Error(`chain ${other} in the slots of chain ${chain}: refused is ${refused}`)
    fresh.release()
    this.#noteEvictions()
  }

  /** Fills host slots as an engine without device pointers does. */
  async publish(chain: number, blocks: number, abandon: boolean): Promise<void> {
    const sequence = this.sequence(chain, blocks)
    const reservation = await this.manager.host.reserve(sequence)
    const bytes = await this.#patternOf(sequence)
    for (let i = 0; i < reservation.blockCount; i++) {
      if (reservation.needs(i)) reservation.window(i).set(bytes.subarray(i * STRIDE, i * STRIDE + blockBytesOf(layout)))
    }
    if (abandon) return reservation.release()
    for (const key of keysOf(sequence)) this.everStored.add(key)
    await reservation.publish()
    this.#noteEvictions()
  }

  async #patternOf(sequence: Sequence): Promise<Uint8Array> {
    const bytes = new Uint8Array(STRIDE * sequence.blockCount)
    const shape = { parts: 1, layers: 2, outer: 2, tokensPerBlock: TOKENS, bytesPerToken: 512 }
    const storage = binding.borrowMemory('contiguous', shape, sequence.blockCount, [bytes])
    const slots = Uint32Array.from({ length: sequence.blockCount }, (_, i) => i)
    await new Promise<void>((resolve) => {
      completions().batch((ticket) => binding.startFillPattern(ticket, storage, slots, sequence.hashes.bytes.slice()), {
        onDone: () => undefined,
        onSettled: resolve,
      })
    })
    await completions().call((ticket) => binding.startClose(ticket, storage))
    return bytes
  }

  releasePin(which: number): void {
    const [pin] = this.pins.splice(which % Math.max(1, this.pins.length), 1)
    pin?.release()
  }

  /** Flips one bit somewhere in the slab or the table. */
  corrupt(at: number, inTable: boolean): void {
    const store = this.#storeFile(inTable ? 'group-0.table' : 'group-0.slab')
    const size = statSync(store).size
    const file = openSync(store, 'r+')
    const byte = Buffer.alloc(1)
    // The superblocks are left alone here: without them the store is fresh, which the claims below would not see.
    const offset = inTable ? 8192 + (at % (size - 8192)) : at % size
    readSync(file, byte, 0, 1, offset)
    byte[0] = (byte[0] ?? 0) ^ (1 << (at % 8))
    writeSync(file, byte, 0, 1, offset)
    closeSync(file)
    this.#damaged = true
    this.forgetClaims()
  }

  #storeFile(name: string): string {
    const [store] = readdirSync(join(this.directory, 'v1')).filter((each) => /^[0-9a-f]{32}$/.test(each))
    return join(this.directory, 'v1', store ?? '', name)
  }

  releaseAll(): void {
    for (const pin of this.pins.splice(0)) pin.release()
  }

  /** A graceful restart: what was held must be there again. */
  async reopen(): Promise<void> {
    this.releaseAll()
    const fits = this.held.size <= this.shape.diskBlocks
    await this.manager.close()
    if (!fits || this.manager.stats().counters.evictedFromDisk > 0) this.forgetClaims()
    await this.open()
    this.onDisk = new Set(this.held)
    this.#damaged = false
  }

  /** A crash: the files as they are at this moment, also in the middle of writes, go on in another process's place. */
  async crash(): Promise<void> {
    this.#noteEvictions()
    const copy = mkdtempSync(join(tmpdir(), 'kvtier-model-'))
    cpSync(this.directory, copy, { recursive: true })
    this.releaseAll()
    await this.manager.close({ flush: false })
    if (this.manager.stats().counters.evictedFromDisk > 0) this.forgetClaims()
    rmSync(this.directory, { recursive: true, force: true })
    this.directory = copy
    this.held = new Set(this.onDisk)
    await this.open()
    this.#damaged = false
  }

  /** What must hold whenever nothing is in flight. */
  checkQuiet(): void {
    this.manager.checkAccounting()
    const { tiers } = this.manager.stats()
    for (const name of ['device', 'host', 'disk'] as const) {
      const tier = tiers[name]
      if (tier.filling !== 0) throw new Error(`${tier.filling} slots of ${name} are still filling`)
      if (tier.pinned !== 0 && (name !== 'device' || this.pins.length === 0)) {
        throw new Error(`${tier.pinned} slots of ${name} are still pinned`)
      }
    }
  }

  async end(): Promise<void> {
    this.releaseAll()
    await this.manager.close({ flush: false })
    rmSync(this.directory, { recursive: true, force: true })
    this.#lent?.free()
  }
}
