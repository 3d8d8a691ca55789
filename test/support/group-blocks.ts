/** A layer group's accounting for tests, and its verbs in one step each. */
import { expect } from 'vitest'
import { type BlockFacts, GroupBlocks } from '../../lib/blocks/group-blocks.ts'

export const HOST: number = 1
export const DISK: number = 2

export const FACTS: Omit<BlockFacts, 'depth'> = { tenant: 1, priority: 0, expiresAtS: 0 }

export function makeGroup(host: number, disk = 0, prefixClosed = true, policy = 'lru'): GroupBlocks {
  return new GroupBlocks({
    tiers: [{ slotCount: 0 }, { slotCount: host }, { slotCount: disk }],
    policy,
    prefixClosed,
  })
}

/** Hashes of a sequence; sequences with the same name share them. */
export function hashesOf(name: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count * 8 }, (_, word) => Math.imul(word + 1, 0x9e3779b1) ^ (name * 7919))
}

/** Stores blocks `from` to `to` of a sequence in a tier; their entries. */
export function store(
  group: GroupBlocks,
  tier: number,
  name: number,
  to: number,
  options: { from?: number; facts?: Partial<BlockFacts> } = {},
): number[] {
  const hashes = hashesOf(name, to)
  const entries: number[] = []
  for (let i = options.from ?? 0; i < to; i++) {
    const parent = i === 0 || !group.prefixClosed ? -1 : group.find(hashes, i - 1)
    const entry = group.begin(hashes, i, parent, { ...FACTS, ...options.facts, depth: i })
    group.assign(entry, tier, group.takeFree(tier))
    expect(group.publish(entry, tier)).toBe(true)
    entries.push(entry)
  }
  return entries
}

export function touch(group: GroupBlocks, entries: readonly number[], tick: number): void {
  group.touch(Int32Array.from(entries), entries.length, tick)
}

export function evictAll(group: GroupBlocks, tier: number): number[] {
  const gone: number[] = []
  for (let victim = group.victim(tier); victim >= 0; victim = group.victim(tier)) {
    gone.push(victim)
    expect(group.evict(victim, tier)).toBe(true)
  }
  return gone
}
