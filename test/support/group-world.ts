/**
 * Runs random operations on a GroupBlocks and on its model side by side, and compares everything after each. Operations
 * are small integers; what cannot be done in the present state is skipped, so that every sequence is valid and shrinks.
 */
import fc from 'fast-check'

import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import type { SlabContents } from '../../lib/native/binding.js'
import { HASH_WORDS } from '../../lib/native/sizes.js'
import { GroupModel, type ModelBlock } from './group-model.js'

/** Cheaper than `expect`, which is called some hundred times an operation here. */
function same(actual: unknown, expected: unknown): void {
  if (!Object.is(actual, expected)) throw new Error(`${String(actual)} was found, ${String(expected)} was expected`)
}

function sameText(actual: unknown, expected: unknown): void {
  same(JSON.stringify(actual), JSON.stringify(expected))
}

const BLOCKS = 26
const TENANTS = [7, 4_000_000_000]

/** The universe: a few long branching paths. */
function parentOf(id: number): number {
  return id < 2 ? -1 : Math.max(0, id - (id % 3 === 0 ? 3 : 2))
}

function pathOf(id: number): number[] {
  return id < 0 ? [] : [...pathOf(parentOf(id)), id]
}

/** Few different first words: tags collide and pile up in the table. */
function hashOf(id: number): number[] {
  return [(id % 3) * 0x40000000, 1, 2, 3, 4, 5, 6, id]
}

/** Packs the hashes of blocks. */
export function packHashes(ids: readonly number[]): Uint32Array {
  return Uint32Array.from(ids.flatMap(hashOf))
}

const ALL_HASHES = packHashes(Array.from({ length: BLOCKS }, (_, id) => id))

/** What one random run is made from. */
export interface WorldOptions {
  readonly policy: string
  readonly closed: boolean
  readonly slotCounts: readonly number[]
}

const OPERATIONS = [
  'storePath',
  'storePath',
  'begin',
  'extend',
  'assign',
  'publish',
  'abandon',
  'unassign',
  'forget',
  'pin',
  'unpin',
  'touch',
  'touch',
  'touch',
  'victim',
  'victimToMove',
  'tenantVictim',
  'makeRoom',
  'evict',
  'evict',
  'stay',
  'drop',
  'sweep',
  'advance',
  'quota',
  'adopt',
] as const

/** One operation: what, and three numbers that choose among what there is. */
export type Step = readonly [(typeof OPERATIONS)[number], number, number, number]

/** Operations of a tier under pressure: blocks come, are used, and leave or stay. */
export const PRESSURE: readonly Step[0][] = ['storePath', 'touch', 'touch', 'makeRoom', 'victim', 'stay', 'evict']

/** Random sequences of operations. */
export function steps(maxLength: number, operations: readonly Step[0][] = OPERATIONS): fc.Arbitrary<Step[]> {
  const choice = fc.nat({ max: 1000 })
  return fc.array(fc.tuple(fc.constantFrom(...operations), choice, choice, choice), { maxLength, size: 'max' })
}

/** The two, side by side. */
export class GroupWorld {
  readonly blocks: GroupBlocks
  readonly model: GroupModel
  readonly #closed: boolean

  constructor(options: WorldOptions) {
    this.#closed = options.closed
    this.blocks = new GroupBlocks({
      tiers: options.slotCounts.map((slotCount) => ({ slotCount })),
      policy: options.policy,
      prefixClosed: options.closed,
      entries: BLOCKS * 3,
    })
    this.model = new GroupModel(options.slotCounts, options.policy, options.closed)
  }

  run([operation, a, b, c]: Step): void {
    this[operation](a, b, c)
    this.compare()
  }

  extend(a: number, b: number, c: number): void {
    const block = this.#pickLive(a)
    if (block === null) return
    const expiresAtS = b % 3 === 0 ? 0 : this.model.nowS + (b % 4)
    this.blocks.extend(block.entry, c % 4, expiresAtS)
    this.model.extend(block, c % 4, expiresAtS)
  }

  /** Stores a path: its first part in one tier, the rest in another, so that tiers have blocks without their parents. */
  storePath(a: number, b: number, c: number): void {
    const path = pathOf(a % BLOCKS)
    const split = c % 2 === 0 ? 0 : a % path.length
    for (const [at, id] of path.entries()) {
      const block = this.#begin(id, c)
      if (block === null) return
      const tier = this.#pick(this.model.tiers, at < split ? b : b + 1)
      if (block.copies.has(tier) || !this.#assign(block, tier)) continue
      this.#publish(block, tier, c % 7 === 0 ? 1 : 0)
    }
  }

  begin(a: number, _b: number, c: number): void {
    const block = this.#begin(a % BLOCKS, c)
    if (block !== null) this.#forget(block)
  }

  assign(a: number, b: number, c: number): void {
    const block = this.#begin(a % BLOCKS, c)
    const tier = this.#pick(this.model.tiers, b)
    if (block !== null && (block.copies.has(tier) || !this.#assign(block, tier))) this.#forget(block)
  }

  publish(a: number, b: number, c: number): void {
    const found = this.#pickCopy(a, (copy) => !copy.published)
    if (found !== null) this.#publish(found.block, found.tier, c % 3, this.model.tick - (b % 3))
  }

  abandon(a: number): void {
    const found = this.#pickCopy(a, (copy) => !copy.published)
    if (found === null) return
    this.blocks.abandon(found.block.entry, found.tier)
    this.model.giveUpFilling(found.block, found.tier)
  }

  unassign(a: number): void {
    const found = this.#pickCopy(a, (copy) => !copy.published)
    if (found === null) return
    const { slot } = found.block.copies.get(found.tier)!
    this.blocks.unassign(found.block.entry, found.tier)
    this.blocks.giveBack(found.tier, slot)
    this.model.giveUpFilling(found.block, found.tier)
  }

  forget(a: number): void {
    const block = this.#pickLive(a)
    if (block !== null) this.#forget(block)
  }

  pin(a: number): void {
    const found = this.#pickCopy(a, (copy, block) => copy.published && !block.lost)
    if (found === null) return
    this.blocks.pin(found.block.entry, found.tier)
    found.block.copies.get(found.tier)!.pins++
  }

  unpin(a: number): void {
    const found = this.#pickCopy(a, (copy) => copy.pins > 0)
    if (found === null) return
    this.blocks.unpin(found.block.entry, found.tier)
    this.model.unpin(found.block, found.tier)
  }

  touch(a: number, b: number, c: number): void {
    const block = this.#pickLive(a)
    if (block === null) return
    let path = pathOf(block.id).flatMap((id) => this.model.live.get(id) ?? [])
    path = path.slice(0, 1 + (b % path.length))
    const tick = this.model.tick + (c % 3)
    this.blocks.touch(
      Int32Array.from(path, ({ entry }) => entry),
      path.length,
      tick,
    )
    this.model.touch(path, tick)
  }

  victim(_a: number, b: number): void {
    this.#victim(this.#pick(this.model.tiers, b), null, false)
  }

  victimToMove(_a: number, b: number): void {
    this.#victim(this.#pick(this.model.tiers, b), null, true)
  }

  tenantVictim(a: number, b: number): void {
    const tenant = this.#pick(TENANTS, a)
    const tier = this.#pick(this.model.tiers, b)
    if (this.model.quotas.has(`${tenant}/${tier}`)) this.#victim(tier, tenant, false)
  }

  makeRoom(a: number, b: number): void {
    const tier = this.#pick(this.model.tiers, b)
    for (let i = a % 4; i >= 0; i--) {
      const victim = this.#victim(tier, null, false)
      if (victim === null) return
      same(this.blocks.evict(victim.entry, tier), this.model.evict(victim, tier))
    }
  }

  evict(a: number): void {
    const found = this.#pickCopy(a, (copy) => copy.leaving)
    if (found === null) return
    same(this.blocks.evict(found.block.entry, found.tier), this.model.evict(found.block, found.tier))
  }

  stay(a: number): void {
    const found = this.#pickCopy(a, (copy) => copy.leaving)
    if (found === null) return
    this.blocks.stay(found.block.entry, found.tier)
    this.model.stay(found.block, found.tier)
  }

  drop(a: number, b: number): void {
    const block = this.#pickLive(a)
    if (block === null || b % 3 !== 0) return
    const expected = this.model.tiers.flatMap((tier) => this.#heldSlots(tier))
    const reported: string[] = []
    const lost = this.blocks.drop(block.entry, (tier, slot) => reported.push(`${tier}/${slot}`))
    same(lost, this.model.drop(block))
    const remaining = new Set(this.model.tiers.flatMap((tier) => this.#heldSlots(tier)))
    sameText(reported.sort(), expected.filter((slot) => !remaining.has(slot)).sort())
  }

  sweep(a: number, b: number): void {
    const nowS = this.model.nowS + (a % 3)
    same(this.blocks.sweepExpired(nowS, b % 4), this.model.sweep(nowS, b % 4))
  }

  advance(a: number): void {
    this.model.nowS += a % 2
    this.blocks.walk(new Uint32Array(), 0, new Int32Array(), this.model.nowS)
  }

  quota(a: number, b: number, c: number): void {
    const tenant = this.#pick(TENANTS, a)
    const tier = this.#pick(this.model.tiers, b)
    const slots = c % 3 === 0 ? Number.POSITIVE_INFINITY : c % 8
    this.blocks.setQuota(tenant, tier, slots)
    if (slots === Number.POSITIVE_INFINITY) this.model.quotas.delete(`${tenant}/${tier}`)
    else this.model.quotas.set(`${tenant}/${tier}`, slots)
  }

  /** A recovered table of one path, in slices of two rows; some of its slots and blocks may be taken already. */
  adopt(a: number, b: number, c: number): void {
    const ids = pathOf(a % BLOCKS)
    const tier = this.#pick(this.model.tiers, b)
    const slotCount = this.blocks.counts(tier).slots
    const slots = ids.map((_, i) => (c + i) % slotCount)
    const contents = tableOf(ids, slots, this.#pick(TENANTS, c))
    let adopted = 0
    for (let from = 0; from < ids.length; from += 2) {
      adopted += this.blocks.adopt(contents, from, Math.min(from + 2, ids.length), tier)
    }
    same(adopted, this.#adoptInModel(contents, ids, tier))
  }

  /** Everything that can be seen from outside, and the invariants inside. */
  compare(): void {
    const { blocks, model } = this
    blocks.check()
    same(blocks.entryCount, model.live.size + model.lost.size)
    for (let id = 0; id < BLOCKS; id++) {
      const block = model.live.get(id)
      same(blocks.find(ALL_HASHES, id), block?.entry ?? -1)
      same(blocks.findHeld(ALL_HASHES, id, model.nowS) >= 0, this.#isMatch(id))
    }
    for (const block of model.all()) this.#compareBlock(block)
    for (const tier of model.tiers) {
      sameText(blocks.counts(tier), model.counts(tier))
      for (const tenant of TENANTS) this.#compareUse(tenant, tier)
    }
    for (const id of [BLOCKS - 1, BLOCKS - 2]) this.#compareWalk(pathOf(id))
  }

  #compareBlock(block: ModelBlock): void {
    const { blocks } = this
    same(blocks.isLost(block.entry), block.lost)
    same(blocks.isHeld(block.entry), this.model.isHeld(block))
    same(blocks.tenantOf(block.entry), block.tenant)
    same(blocks.priorityOf(block.entry), block.priority)
    same(blocks.expiresAtOf(block.entry), block.expiresAtS)
    same(blocks.depthOf(block.entry), block.depth)
    same(blocks.parentOf(block.entry), block.parent?.entry ?? -1)
    for (const tier of this.model.tiers) {
      const copy = block.copies.get(tier)
      same(blocks.slotOf(block.entry, tier), copy?.slot ?? -1)
      same(blocks.holds(block.entry, tier), copy?.published === true && !block.lost)
      same(blocks.isFilling(block.entry, tier), copy?.published === false)
      same(blocks.isPinned(block.entry, tier), (copy?.pins ?? 0) > 0)
    }
  }

  #compareUse(tenant: number, tier: number): void {
    const used = this.model.usedBy(tenant, tier)
    same(this.blocks.usedBy(tenant, tier), used)
    const quota = this.model.quotas.get(`${tenant}/${tier}`) ?? Number.POSITIVE_INFINITY
    same(this.blocks.isOverQuota(tenant, tier), used >= quota)
  }

  #compareWalk(path: readonly number[]): void {
    const { nowS } = this.model
    const hashes = packHashes(path)
    const entries = new Int32Array(path.length)
    const firstMiss = path.findIndex((id) => !this.#isMatch(id))
    const expected = firstMiss < 0 ? path.length : firstMiss
    same(this.blocks.walk(hashes, path.length, entries, nowS), expected)
    sameText(
      [...entries.subarray(0, expected)],
      path.slice(0, expected).map((id) => this.model.live.get(id)?.entry),
    )
    const monotone = this.#closed && path.slice(expected).every((id) => !this.#isMatch(id))
    if (monotone) same(this.blocks.gallop(hashes, path.length, nowS), expected)
  }

  #isMatch(id: number): boolean {
    const block = this.model.live.get(id)
    return block !== undefined && this.model.isHeld(block) && !this.model.isExpired(block)
  }

  #heldSlots(tier: number): string[] {
    return [...this.model.live.values()].flatMap((block) => {
      const copy = block.copies.get(tier)
      return copy?.published ? [`${tier}/${copy.slot}`] : []
    })
  }

  #begin(id: number, c: number): ModelBlock | null {
    const parent = this.#closed ? (this.model.live.get(parentOf(id)) ?? null) : null
    if (this.#closed && parentOf(id) >= 0 && parent === null) return null
    const depth = pathOf(id).length - 1
    const priority = c % 5 === 0 ? 2 : 0
    const expiresAtS = c % 4 === 0 ? this.model.nowS + 1 + (c % 3) : 0
    const existing = this.model.live.get(id)
    const tenant = existing?.tenant ?? this.#pick(TENANTS, id)
    const entry = this.blocks.begin(ALL_HASHES, id, parent?.entry ?? -1, { depth, priority, expiresAtS, tenant })
    if (existing !== undefined) {
      same(entry, existing.entry)
      this.model.extend(existing, priority, expiresAtS)
      return existing
    }
    const block: ModelBlock = { id, entry, parent, depth, tenant, priority, expiresAtS, lost: false, copies: new Map() }
    this.model.begin(block)
    return block
  }

  #forget(block: ModelBlock): void {
    this.blocks.forget(block.entry)
    this.model.removeIfEmpty(block)
  }

  #assign(block: ModelBlock, tier: number): boolean {
    const slot = this.blocks.takeFree(tier)
    same(slot >= 0, this.model.counts(tier).free > 0)
    if (slot < 0) {
      this.#forget(block)
      return false
    }
    this.blocks.assign(block.entry, tier, slot)
    this.model.assign(block, tier, slot)
    return true
  }

  #publish(block: ModelBlock, tier: number, pins: number, lastUse: number = this.model.tick): void {
    const published = this.blocks.publish(block.entry, tier, pins, lastUse)
    same(published, this.model.canPublish(block))
    if (published) this.model.publish(block, tier, pins, lastUse, this.model.tick)
  }

  #victim(tier: number, tenant: number | null, toMove: boolean): ModelBlock | null {
    const expected = this.model.victim(tier, tenant, toMove)
    const ask = toMove ? 'victimToMove' : 'victim'
    same(this.blocks[ask](tier, tenant ?? undefined), expected?.entry ?? -1)
    if (expected !== null) this.model.startLeaving(expected, tier)
    return expected
  }

  #adoptInModel(contents: SlabContents, ids: readonly number[], tier: number): number {
    const slotsInUse = new Set(this.model.all().flatMap((block) => block.copies.get(tier)?.slot ?? []))
    let adopted = 0
    ids.forEach((id, row) => {
      const parent = this.#closed ? (this.model.live.get(parentOf(id)) ?? null) : null
      if (this.#closed && row > 0 && (parent === null || !this.model.isHeld(parent))) return
      const known = this.model.live.get(id)
      const slot = contents.slots[row]!
      if (slotsInUse.has(slot) || known?.copies.has(tier)) return
      const block = known ?? this.#adoptNew(contents, row, id, parent)
      slotsInUse.add(slot)
      this.model.assign(block, tier, slot)
      this.model.publish(block, tier, 0, contents.lastUsesS[row]! - 2 ** 32)
      adopted++
    })
    return adopted
  }

  #adoptNew(contents: SlabContents, row: number, id: number, parent: ModelBlock | null): ModelBlock {
    const entry = this.blocks.find(ALL_HASHES, id)
    const block: ModelBlock = {
      id,
      entry,
      parent,
      depth: contents.depths[row]!,
      tenant: contents.tenantTags[row]!,
      priority: contents.priorities[row]!,
      expiresAtS: contents.expiresAtS[row]!,
      lost: false,
      copies: new Map(),
    }
    this.model.begin(block)
    return block
  }

  #pick<T>(from: readonly T[], choice: number): T {
    return from[choice % from.length]!
  }

  #pickLive(choice: number): ModelBlock | null {
    const live = [...this.model.live.values()]
    return live.length === 0 ? null : this.#pick(live, choice)
  }

  #pickCopy(
    choice: number,
    wanted: (copy: { published: boolean; leaving: boolean; pins: number }, block: ModelBlock) => boolean,
  ): { block: ModelBlock; tier: number } | null {
    const all = this.model
      .all()
      .flatMap((block) => [...block.copies].flatMap(([tier, copy]) => (wanted(copy, block) ? [{ block, tier }] : [])))
    return all.length === 0 ? null : this.#pick(all, choice)
  }
}

/** A recovered table: one path, its first block first. */
export function tableOf(ids: readonly number[], slots: readonly number[], tenant: number): SlabContents {
  return {
    hashes: new Uint8Array(packHashes(ids).buffer),
    slots: Uint32Array.from(slots),
    parents: Int32Array.from(ids, (_, row) => row - 1),
    depths: Uint32Array.from(ids, (_, row) => row),
    tenantTags: new Uint32Array(ids.length).fill(tenant),
    priorities: Uint32Array.from(ids, (id) => id % 2),
    expiresAtS: new Uint32Array(ids.length),
    lastUsesS: Uint32Array.from(ids, (id) => 1000 - (id % 4)),
    recordsRejected: 0,
    recordsSuperseded: 0,
    recordsOrphaned: 0,
    recordsUnreadable: 0,
  }
}

/** Words of a hash, for tests that pack their own. */
export const WORDS = HASH_WORDS
