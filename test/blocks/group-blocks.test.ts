import { describe, expect, it } from 'vitest'
import { GroupBlocks } from '../../lib/blocks/group-blocks.ts'
import { errorOf } from '../support/expect-code.ts'
import { DISK, evictAll, FACTS, HOST, hashesOf, makeGroup, store, touch } from '../support/group-blocks.ts'

describe('matching', () => {
  it('stops at the first block that no tier holds, that is still filling, or that has expired', () => {
    const group = makeGroup(8)
    store(group, HOST, 1, 3)
    const hashes = hashesOf(1, 6)
    const fourth = group.begin(hashes, 3, group.find(hashes, 2), { ...FACTS, depth: 3, expiresAtS: 100 })
    const entries = new Int32Array(6)
    expect(group.walk(hashes, 6, entries, 50)).toBe(3)
    group.assign(fourth, HOST, group.takeFree(HOST))
    expect(group.walk(hashes, 6, entries, 50)).toBe(3)
    group.publish(fourth, HOST)
    expect(group.walk(hashes, 6, entries, 50)).toBe(4)
    expect(entries[3]).toBe(fourth)
    expect(group.walk(hashes, 6, entries, 100)).toBe(3)
  })

  it('gives the length by galloping as by walking, for every length', () => {
    const group = makeGroup(100)
    const hashes = hashesOf(1, 100)
    for (let held = 0; held <= 70; held++) {
      for (const asked of [0, 1, held, held + 1, 100]) {
        expect(group.gallop(hashes, asked, 0)).toBe(Math.min(asked, held))
        expect(group.walk(hashes, asked, new Int32Array(100), 0)).toBe(Math.min(asked, held))
      }
      store(group, HOST, 1, held + 1, { from: held })
    }
  })

  it('matches 8,192 blocks of a chain among others', () => {
    const group = makeGroup(20_000)
    store(group, HOST, 1, 8192)
    store(group, HOST, 2, 8192)
    const entries = new Int32Array(8192)
    expect(group.walk(hashesOf(2, 8192), 8192, entries, 0)).toBe(8192)
    expect(group.depthOf(entries[8191]!)).toBe(8191)
  })
})

describe('filling', () => {
  it('takes consecutive slots for a sequence, and again after others were evicted', () => {
    const group = makeGroup(256)
    for (let name = 0; name < 4; name++) touch(group, store(group, HOST, name, 64), name)
    for (let i = 0; i < 64; i++) group.evict(group.victim(HOST), HOST)
    const slots = store(group, HOST, 9, 64).map((entry) => group.slotOf(entry, HOST))
    expect(slots).toEqual(Array.from({ length: 64 }, (_, slot) => slot))
  })

  it('does not publish a block whose parent is not held', () => {
    const group = makeGroup(4)
    const hashes = hashesOf(1, 2)
    const first = group.begin(hashes, 0, -1, { ...FACTS, depth: 0 })
    const second = group.begin(hashes, 1, first, { ...FACTS, depth: 1 })
    group.assign(first, HOST, group.takeFree(HOST))
    group.assign(second, HOST, group.takeFree(HOST))
    expect(group.publish(second, HOST)).toBe(false)
    expect(group.publish(first, HOST)).toBe(true)
    expect(group.publish(second, HOST)).toBe(true)
  })

  it('cannot publish what was begun behind a block that failed', () => {
    const group = makeGroup(4)
    const hashes = hashesOf(1, 2)
    const first = group.begin(hashes, 0, -1, { ...FACTS, depth: 0 })
    group.assign(first, HOST, group.takeFree(HOST))
    const second = group.begin(hashes, 1, first, { ...FACTS, depth: 1 })
    group.assign(second, HOST, group.takeFree(HOST))
    group.abandon(first, HOST)
    expect(group.isLost(second)).toBe(true)
    expect(group.publish(second, HOST)).toBe(false)
    group.abandon(second, HOST)
    expect(group.counts(HOST).free).toBe(4)
    expect(group.entryCount).toBe(0)
    group.check()
  })

  it('keeps a block that failed in one tier and is held in another', () => {
    const group = makeGroup(4, 4)
    const [entry] = store(group, HOST, 1, 1) as [number]
    group.assign(entry, DISK, group.takeFree(DISK))
    expect(group.isFilling(entry, DISK)).toBe(true)
    group.abandon(entry, DISK)
    expect([group.holds(entry, HOST), group.slotOf(entry, DISK)]).toEqual([true, -1])
    group.check()
  })

  it('gives a slot back to whoever took it when an assignment is undone', () => {
    const group = makeGroup(1)
    const slot = group.takeFree(HOST)
    const entry = group.begin(hashesOf(1, 1), 0, -1, { ...FACTS, depth: 0 })
    group.assign(entry, HOST, slot)
    expect(group.entryAt(HOST, slot)).toBe(entry)
    group.unassign(entry, HOST)
    expect([group.entryAt(HOST, slot), group.entryCount, group.takeFree(HOST)]).toEqual([-1, 0, -1])
    group.giveBack(HOST, slot)
    expect(group.takeFree(HOST)).toBe(slot)
  })

  it('keeps the larger priority and the later expiry of a block that is stored twice', () => {
    const group = makeGroup(4)
    store(group, HOST, 1, 1, { facts: { priority: 3, expiresAtS: 50 } })
    const hashes = hashesOf(1, 1)
    const entry = group.begin(hashes, 0, -1, { ...FACTS, depth: 0, priority: 1, expiresAtS: 70 })
    expect([group.priorityOf(entry), group.expiresAtOf(entry)]).toEqual([3, 70])
    group.begin(hashes, 0, -1, { ...FACTS, depth: 0, priority: 5 })
    expect([group.priorityOf(entry), group.expiresAtOf(entry)]).toEqual([5, 0])
    group.check()
  })

  it('remembers what is filling a block until its entry is another block', () => {
    const group = makeGroup(1)
    const [entry] = store(group, HOST, 1, 1) as [number]
    group.setPending(entry, 2 ** 40)
    expect(group.pendingOf(entry)).toBe(2 ** 40)
    evictAll(group, HOST)
    const [other] = store(group, HOST, 2, 1) as [number]
    expect(group.pendingOf(other)).toBe(0)
  })
})

describe('losing a block', () => {
  it('makes it and everything behind it unfindable in every tier at once, and reports their slots', () => {
    const group = makeGroup(8, 8)
    const entries = store(group, HOST, 1, 4)
    for (const entry of entries.slice(0, 3)) {
      group.assign(entry, DISK, group.takeFree(DISK))
      group.publish(entry, DISK)
    }
    const reported: string[] = []
    expect(group.drop(entries[1]!, (tier, slot) => reported.push(`${tier}/${slot}`))).toBe(3)
    expect(reported.sort()).toEqual(['1/1', '1/2', '1/3', '2/1', '2/2'])
    expect(group.walk(hashesOf(1, 4), 4, new Int32Array(4), 0)).toBe(1)
    expect([group.counts(HOST).held, group.counts(DISK).held, group.entryCount]).toEqual([1, 1, 1])
    group.check()
  })

  it('frees slots that are pinned, filling or leaving only when they are let go', () => {
    const group = makeGroup(8)
    const [pinned] = store(group, HOST, 1, 1) as [number]
    const [leaving] = store(group, HOST, 2, 1) as [number]
    const filling = group.begin(hashesOf(3, 1), 0, -1, { ...FACTS, depth: 0 })
    group.assign(filling, HOST, group.takeFree(HOST))
    group.pin(pinned, HOST)
    expect(group.victim(HOST)).toBe(leaving)
    expect([pinned, leaving, filling].map((entry) => group.drop(entry))).toEqual([1, 1, 0])
    expect(group.counts(HOST)).toMatchObject({ free: 5, filling: 1, pinned: 1, evictable: 1, held: 0 })
    expect([group.slotOf(pinned, HOST), group.holds(pinned, HOST)]).toEqual([0, false])
    group.check()
    group.unpin(pinned, HOST)
    expect(group.evict(leaving, HOST)).toBe(true)
    expect(group.publish(filling, HOST)).toBe(false)
    group.abandon(filling, HOST)
    expect([group.counts(HOST).free, group.entryCount]).toEqual([8, 0])
    group.check()
  })

  it('makes room for the same hash again while an old slot is still pinned', () => {
    const group = makeGroup(8)
    const [before] = store(group, HOST, 1, 1) as [number]
    group.pin(before, HOST)
    group.drop(before)
    const [after] = store(group, HOST, 1, 1) as [number]
    expect(after).not.toBe(before)
    group.unpin(before, HOST)
    expect(group.find(hashesOf(1, 1), 0)).toBe(after)
    group.check()
  })

  it('happens to blocks that have expired, as many as asked for, with what is behind them', () => {
    const group = makeGroup(16)
    for (let name = 0; name < 4; name++) store(group, HOST, name, 2, { facts: { expiresAtS: 10 + name } })
    expect(group.sweepExpired(9, 10)).toBe(0)
    expect(group.sweepExpired(12, 2)).toBe(4)
    expect(group.counts(HOST).held).toBe(4)
    expect(group.sweepExpired(12, 10)).toBe(2)
    expect(group.counts(HOST).held).toBe(2)
  })
})

describe('a tenant with a quota', () => {
  it('is over it when its slots are used up, taken ones included', () => {
    const group = makeGroup(8)
    group.setQuota(1, HOST, 2)
    expect(group.isOverQuota(1, HOST)).toBe(false)
    expect(group.isOverQuota(1, HOST, 2)).toBe(true)
    store(group, HOST, 1, 2)
    expect([group.isOverQuota(1, HOST), group.usedBy(1, HOST)]).toEqual([true, 2])
    group.setQuota(1, HOST, Number.POSITIVE_INFINITY)
    expect([group.isOverQuota(1, HOST), group.isOverQuota(99, HOST)]).toEqual([false, false])
  })

  it('gives up its own blocks first where it is asked, and in the common order otherwise', () => {
    const group = makeGroup(8)
    const [others] = store(group, HOST, 1, 1) as [number]
    const own = store(group, HOST, 2, 2, { facts: { tenant: 5 } })
    touch(group, [others], 1)
    touch(group, own, 2)
    group.setQuota(5, HOST, 2)
    expect(group.victim(HOST, 5)).toBe(own[1])
    group.stay(own[1]!, HOST)
    expect(evictAll(group, HOST)).toEqual([others, own[1], own[0]])
    expect(group.victim(HOST, 5)).toBe(-1)
    expect(group.victim(HOST, 77)).toBe(-1)
  })
})

describe('misuse of the accounting', () => {
  const cases: readonly [string, string, (group: GroupBlocks, entry: number) => unknown][] = [
    ['a slot that is not its tier’s', 'there are 4 slots', (group) => group.giveBack(HOST, 9)],
    ['giving back an assigned slot', 'has it', (group, entry) => group.giveBack(HOST, group.slotOf(entry, HOST))],
    ['publishing twice', 'its slot is evictable', (group, entry) => group.publish(entry, HOST)],
    ['abandoning a published block', 'its slot is evictable', (group, entry) => group.abandon(entry, HOST)],
    ['unpinning what is not pinned', 'it is evictable', (group, entry) => group.unpin(entry, HOST)],
    ['pinning where it is not held', 'does not hold it', (group, entry) => group.pin(entry, DISK)],
    ['evicting what is not leaving', 'it is not leaving', (group, entry) => group.evict(entry, HOST)],
    ['keeping what is not leaving', 'it is not leaving', (group, entry) => group.stay(entry, HOST)],
    ['a second slot in a tier', 'which has slot 0', (group, entry) => group.assign(entry, HOST, group.takeFree(HOST))],
    ['a slot for no block', 'is no block', (group) => group.assign(77, HOST, group.takeFree(HOST))],
    ['a tier that is not there', 'does not have it', (group, entry) => group.assign(entry, 0, 0)],
    [
      'an older tick',
      'tick 5 was before',
      (group, entry) => {
        touch(group, [entry], 5)
        touch(group, [entry], 4)
      },
    ],
    ['a block behind no block', 'is no block', (group) => group.begin(hashesOf(8, 2), 1, 55, { ...FACTS, depth: 1 })],
    [
      'a first block at another depth',
      'is no block',
      (group) => group.begin(hashesOf(8, 2), 1, -1, { ...FACTS, depth: 1 }),
    ],
    [
      'a wrong depth',
      'behind one of depth 0',
      (group, entry) => group.begin(hashesOf(8, 2), 1, entry, { ...FACTS, depth: 5 }),
    ],
    ['a victim of a tenant without a quota', 'has no quota', (group) => group.victim(HOST, 1)],
  ]
  for (const [name, message, run] of cases) {
    it(`is an internal error that says what there was: ${name}`, () => {
      const group = makeGroup(4, 4)
      const [entry] = store(group, HOST, 1, 1) as [number]
      expect(errorOf('ERR_KV_INTERNAL', () => run(group, entry)).message).toContain(message)
    })
  }

  it('with more tiers than there can be, or a policy that is not in the catalog, ends before anything is made', () => {
    const tiers = Array.from({ length: 5 }, () => ({ slotCount: 1 }))
    errorOf('ERR_KV_INTERNAL', () => new GroupBlocks({ tiers, policy: 'lru', prefixClosed: true }))
    errorOf(
      'ERR_KV_UNKNOWN_POLICY',
      () => new GroupBlocks({ tiers: [{ slotCount: 1 }], policy: 'mru', prefixClosed: true }),
    )
  })
})

it('answers for a tier that is absent as for an empty one', () => {
  const group = makeGroup(4)
  const [entry] = store(group, HOST, 1, 1) as [number]
  expect([group.takeFree(DISK), group.victim(DISK), group.slotOf(entry, DISK), group.entryAt(DISK, 0)]).toEqual([
    -1, -1, -1, -1,
  ])
  expect(group.holds(entry, DISK)).toBe(false)
  expect(group.counts(DISK)).toEqual({ slots: 0, free: 0, filling: 0, pinned: 0, evictable: 0, held: 0 })
})
