/**
 * What every eviction policy of the catalog must do inside the block accounting. The reference is the same policy driven
 * the slow way: each block of a request touched itself, last to first, and the victim found by looking at all blocks.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import { EVICTION_POLICIES, makePolicy } from '../../lib/policy/eviction/catalog.js'
import type { EvictionPolicy } from '../../lib/policy/eviction/types.js'

const TIER = 0
const IDS = 40

/** A few long branching paths. */
function pathOf(id: number): number[] {
  return id < 3 ? [id] : [...pathOf(id - (id % 4 === 0 ? 3 : 2)), id]
}

function hashesOf(ids: readonly number[]): Uint32Array {
  return Uint32Array.from(ids.flatMap((id) => [Math.imul(id + 1, 0x9e3779b1), id, 0, 0, 0, 0, 0, 0]))
}

interface Held {
  readonly id: number
  readonly entry: number
  readonly slot: number
  readonly depth: number
  pins: number
}

/** One tier served the slow way. */
class Reference {
  readonly held = new Map<number, Held>()
  readonly #lastUse: Float64Array
  readonly #policy: EvictionPolicy

  constructor(name: string, slotCount: number) {
    this.#lastUse = new Float64Array(slotCount)
    this.#policy = makePolicy(name, { slotCount, lastUse: this.#lastUse })
  }

  insert(block: Held, tick: number): void {
    this.held.set(block.id, block)
    this.#lastUse[block.slot] = tick
    this.#policy.insert(block.slot, tick)
    for (const id of pathOf(block.id)) {
      const before = this.held.get(id)
      if (before !== undefined) this.#lastUse[before.slot] = tick
    }
  }

  touch(ids: readonly number[], tick: number): void {
    for (const id of ids.toReversed()) {
      const { slot } = this.held.get(id)!
      this.#lastUse[slot] = tick
      this.#policy.touch(slot, tick, false)
    }
  }

  hasChild(id: number): boolean {
    return [...this.held.keys()].some((other) => other !== id && pathOf(other).includes(id))
  }

  victim(): Held | undefined {
    return [...this.held.values()]
      .filter(({ id, pins }) => pins === 0 && !this.hasChild(id))
      .sort(
        (a, b) => this.#rank(a) - this.#rank(b) || this.#use(a) - this.#use(b) || b.depth - a.depth || b.slot - a.slot,
      )[0]
  }

  #rank(block: Held): number {
    return this.#policy.rank(block.slot)
  }

  #use(block: Held): number {
    return this.#lastUse[block.slot]!
  }
}

class Run {
  readonly blocks: GroupBlocks
  readonly reference: Reference
  readonly #capacity: number
  #tick = 0

  constructor(policy: string, capacity: number) {
    this.#capacity = capacity
    this.blocks = new GroupBlocks({ tiers: [{ slotCount: capacity }], policy, prefixClosed: true })
    this.reference = new Reference(policy, capacity)
  }

  /** Serves a request for the path of `id`, as far as slots can be had. */
  serve(id: number): void {
    const ids = pathOf(id).slice(0, this.#capacity)
    const hashes = hashesOf(ids)
    const entries = new Int32Array(ids.length)
    let held = this.blocks.walk(hashes, ids.length, entries, 0)
    const before = this.#tick++
    if (held > 0) this.blocks.pin(entries[held - 1]!, TIER)
    for (const each of ids.slice(0, held)) this.reference.held.get(each)!.pins++
    const pinned = held
    while (held < ids.length) {
      const slot = this.#makeRoom(new Set(ids.slice(0, held)))
      if (slot < 0) break
      const entry = this.blocks.begin(hashes, held, entries[held - 1] ?? -1, {
        depth: held,
        tenant: 0,
        priority: 0,
        expiresAtS: 0,
      })
      this.blocks.assign(entry, TIER, slot)
      expect(this.blocks.publish(entry, TIER)).toBe(true)
      this.reference.insert({ id: ids[held]!, entry, slot, depth: held, pins: 0 }, before)
      entries[held++] = entry
    }
    this.blocks.touch(entries, held, this.#tick)
    this.reference.touch(ids.slice(0, held), this.#tick)
    if (pinned > 0) this.blocks.unpin(entries[pinned - 1]!, TIER)
    for (const each of ids.slice(0, pinned)) this.reference.held.get(each)!.pins--
  }

  /** Pins a held block, or lets go of it. */
  togglePin(choice: number): void {
    const held = [...this.reference.held.values()]
    const block = held[choice % Math.max(1, held.length)]
    if (block === undefined) return
    this.blocks[block.pins > 0 ? 'unpin' : 'pin'](block.entry, TIER)
    block.pins = block.pins > 0 ? 0 : 1
  }

  /** Evicts one block, after checking that it is the right one; the one that left. */
  evictOne(): Held | undefined {
    const expected = this.reference.victim()
    const victim = this.blocks.victim(TIER)
    expect(victim).toBe(expected?.entry ?? -1)
    if (expected === undefined) return undefined
    expect(this.blocks.isPinned(victim, TIER), 'a pinned block was the victim').toBe(false)
    expect(this.reference.hasChild(expected.id), 'a block with a child in the tier was the victim').toBe(false)
    expect(this.blocks.evict(victim, TIER)).toBe(true)
    this.reference.held.delete(expected.id)
    return expected
  }

  #makeRoom(keep: ReadonlySet<number>): number {
    const free = this.blocks.takeFree(TIER)
    if (free >= 0) return free
    // A block that was stored a moment ago is the request's own: it must not leave for the next one.
    const next = this.reference.victim()
    if (next === undefined || keep.has(next.id)) return -1
    this.evictOne()
    return this.blocks.takeFree(TIER)
  }
}

const requests = fc.array(fc.tuple(fc.constantFrom('serve', 'serve', 'serve', 'pin', 'evict'), fc.nat({ max: 1000 })), {
  maxLength: 80,
  size: 'max',
})

function play(run: Run, sequence: readonly (readonly [string, number])[]): void {
  for (const [operation, choice] of sequence) {
    if (operation === 'serve') run.serve(choice % IDS)
    else if (operation === 'pin') run.togglePin(choice)
    else run.evictOne()
  }
}

for (const policy of EVICTION_POLICIES) {
  describe(`the eviction policy ${policy}`, () => {
    it('takes the victims that it takes when every block is touched itself: never pinned, never with a child', () => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 16 }), requests, (capacity, sequence) => {
          const run = new Run(policy, capacity)
          play(run, sequence)
          run.blocks.check()
        }),
        { numRuns: 100 },
      )
    })

    it('lets every block leave in the end', () => {
      fc.assert(
        fc.property(requests, (sequence) => {
          const run = new Run(policy, 12)
          play(run, sequence)
          for (const block of run.reference.held.values()) if (block.pins > 0) run.blocks.unpin(block.entry, TIER)
          for (const block of run.reference.held.values()) block.pins = 0
          while (run.evictOne() !== undefined);
          expect(run.blocks.counts(TIER)).toMatchObject({ free: 12, held: 0 })
          expect(run.blocks.entryCount).toBe(0)
        }),
        { numRuns: 50 },
      )
    })
  })
}
