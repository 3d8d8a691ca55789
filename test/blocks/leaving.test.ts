import { describe, expect, it } from 'vitest'
import type { BlockFacts } from '../../lib/blocks/group-blocks.ts'
import { DISK, evictAll, HOST, hashesOf, makeGroup, store, touch } from '../support/group-blocks.ts'

describe('leaving', () => {
  it('takes the block used longest ago, a sequence from its end', () => {
    const group = makeGroup(8)
    const old = store(group, HOST, 1, 3)
    const young = store(group, HOST, 2, 2)
    touch(group, old, 1)
    touch(group, young, 2)
    touch(group, old.slice(0, 1), 3)
    expect(evictAll(group, HOST)).toEqual([old[2], old[1], young[1], young[0], old[0]])
  })

  it('leaves a pinned block and everything before it alone', () => {
    const group = makeGroup(8)
    const entries = store(group, HOST, 1, 4)
    group.pin(entries[2]!, HOST)
    group.pin(entries[2]!, HOST)
    expect(evictAll(group, HOST)).toEqual([entries[3]])
    group.unpin(entries[2]!, HOST)
    expect(group.victim(HOST)).toBe(-1)
    group.unpin(entries[2]!, HOST)
    expect(evictAll(group, HOST)).toEqual([entries[2], entries[1], entries[0]])
  })

  it('keeps a block that was pinned, or got a child, while it was to leave', () => {
    const group = makeGroup(8)
    const [first] = store(group, HOST, 1, 1) as [number]
    expect(group.victim(HOST)).toBe(first)
    group.pin(first, HOST)
    expect(group.evict(first, HOST)).toBe(false)
    group.unpin(first, HOST)
    expect(group.victim(HOST)).toBe(first)
    const [second] = store(group, HOST, 1, 2, { from: 1 }) as [number]
    expect(group.evict(first, HOST)).toBe(false)
    expect(evictAll(group, HOST)).toEqual([second, first])
  })

  it('puts a block that stays back where it was', () => {
    const group = makeGroup(8)
    const [a, b] = [1, 2].map((name) => store(group, HOST, name, 1)[0]!) as [number, number]
    touch(group, [a], 1)
    touch(group, [b], 2)
    expect(group.victim(HOST)).toBe(a)
    group.stay(a, HOST)
    expect(evictAll(group, HOST)).toEqual([a, b])
  })

  it('never takes the only copy of a block that others in another tier need, unless it is to be moved', () => {
    const group = makeGroup(8, 8)
    const [first, second] = store(group, HOST, 1, 2) as [number, number]
    group.assign(second, DISK, group.takeFree(DISK))
    group.publish(second, DISK)
    expect(evictAll(group, HOST)).toEqual([second])
    expect(group.victimToMove(HOST)).toBe(first)
    expect(group.evict(first, HOST)).toBe(false)
    group.assign(first, DISK, group.takeFree(DISK))
    group.publish(first, DISK)
    expect(evictAll(group, HOST)).toEqual([first])
    expect(group.isHeld(first)).toBe(true)
    group.check()
  })

  it('hands out a whole sequence to be moved, its last block first', () => {
    const group = makeGroup(8, 8)
    const entries = store(group, HOST, 1, 3)
    expect([group.victimToMove(HOST), group.victimToMove(HOST), group.victimToMove(HOST)]).toEqual(entries.toReversed())
    expect(entries.toReversed().map((entry) => group.evict(entry, HOST))).toEqual([true, true, true])
    expect(group.entryCount).toBe(0)
  })

  it('knows of a use in every part of a path that a tier holds with gaps', () => {
    const group = makeGroup(8, 8)
    const path = store(group, DISK, 1, 3)
    const [other] = store(group, HOST, 2, 1) as [number]
    for (const entry of [path[0]!, path[2]!]) {
      group.assign(entry, HOST, group.takeFree(HOST))
      group.publish(entry, HOST)
    }
    touch(group, [other], 1)
    touch(group, path, 2)
    expect(evictAll(group, HOST)).toEqual([other, path[2], path[0]])
  })

  it('counts a use of a block once, also when a block behind it was to leave and stayed', () => {
    const group = makeGroup(8, 0, true, 'lfu')
    const path = store(group, HOST, 1, 2)
    const [other] = store(group, HOST, 2, 1) as [number]
    for (let tick = 1; tick <= 3; tick++) touch(group, [other], tick)
    for (let tick = 4; tick <= 5; tick++) touch(group, path, tick)
    expect(group.victim(HOST)).toBe(path[1])
    group.stay(path[1]!, HOST)
    expect(evictAll(group, HOST)).toEqual([path[1], path[0], other])
  })

  it('counts a use of a block once, also while the tier has gaps', () => {
    const group = makeGroup(8, 8, true, 'lfu')
    const gap = store(group, DISK, 3, 2)
    group.assign(gap[1]!, HOST, group.takeFree(HOST))
    group.publish(gap[1]!, HOST)
    const path = store(group, HOST, 1, 2)
    const [other] = store(group, HOST, 2, 1) as [number]
    for (let tick = 1; tick <= 3; tick++) touch(group, [other], tick)
    for (let tick = 4; tick <= 5; tick++) touch(group, path, tick)
    expect(evictAll(group, HOST)).toEqual([gap[1], path[1], path[0], other])
  })

  it('takes lower priorities first, whatever was used last', () => {
    const group = makeGroup(8)
    const low = store(group, HOST, 1, 2, { facts: { priority: 1 } })
    const high = store(group, HOST, 2, 2, { facts: { priority: 2 } })
    touch(group, high, 1)
    touch(group, low, 2)
    expect(evictAll(group, HOST)).toEqual([low[1], low[0], high[1], high[0]])
  })

  it('takes expired blocks before all others', () => {
    const group = makeGroup(8)
    const [valued] = store(group, HOST, 1, 1, { facts: { priority: 9, expiresAtS: 60 } }) as [number]
    const [plain] = store(group, HOST, 2, 1) as [number]
    expect(group.victim(HOST)).toBe(plain)
    group.stay(plain, HOST)
    expect(group.findHeld(hashesOf(1, 1), 0, 60)).toBe(-1)
    expect(evictAll(group, HOST)).toEqual([valued, plain])
  })

  it('takes any block where blocks need no parent', () => {
    const group = makeGroup(8, 0, false)
    const entries = store(group, HOST, 1, 3)
    touch(group, [entries[2]!], 1)
    touch(group, [entries[0]!, entries[1]!], 2)
    expect(evictAll(group, HOST)).toEqual([entries[2], entries[1], entries[0]])
  })
})

describe('a block that is leaving one tier', () => {
  it('is the first to leave another, too, though blocks behind it are leaving still', () => {
    const group = makeGroup(4, 4)
    const [parent, child] = store(group, HOST, 1, 2) as [number, number]
    group.assign(parent, DISK, group.takeFree(DISK))
    expect(group.publish(parent, DISK)).toBe(true)
    const newer = store(group, DISK, 2, 1)
    touch(group, [parent, child], 1)
    touch(group, newer, 2)
    expect([group.victimToMove(HOST), group.victimToMove(HOST)]).toEqual([child, parent])
    expect(group.victim(DISK)).toBe(parent)
    expect(group.evict(parent, DISK)).toBe(true)
    // Its last copy now, and the child is not gone yet.
    expect(group.evict(parent, HOST)).toBe(false)
    expect(group.evict(child, HOST)).toBe(true)
    expect(evictAll(group, HOST)).toEqual([parent])
    expect(group.isHeld(parent)).toBe(false)
    group.check()
  })
})

describe('of two blocks in different tiers', () => {
  const nowS = 100
  const cases: [string, Partial<BlockFacts>, Partial<BlockFacts>][] = [
    ['the one that has not expired', { priority: 0, expiresAtS: nowS + 1 }, { priority: 9, expiresAtS: nowS }],
    ['the one of higher priority', { priority: 2 }, { priority: 1 }],
  ]
  it.each(cases)('%s outlasts the other, however old', (_, better, worse) => {
    const group = makeGroup(4, 4)
    const [a] = store(group, HOST, 1, 1, { facts: better }) as [number]
    const [b] = store(group, DISK, 2, 1, { facts: worse }) as [number]
    touch(group, [a], 1)
    touch(group, [b], 2)
    group.sweepExpired(nowS, 0)
    expect([group.outlasts(a, HOST, b, DISK), group.outlasts(b, DISK, a, HOST)]).toEqual([true, false])
  })

  it('the one used last outlasts the other, and of one request the one nearer to its start', () => {
    const group = makeGroup(4, 4)
    const [first, second] = store(group, HOST, 1, 2) as [number, number]
    const [other] = store(group, DISK, 2, 1) as [number]
    touch(group, [first, second], 1)
    touch(group, [other], 2)
    expect([group.outlasts(second, HOST, other, DISK), group.outlasts(other, DISK, second, HOST)]).toEqual([
      false,
      true,
    ])
    expect([group.lastUseOf(second, HOST), group.lastUseOf(other, DISK)]).toEqual([1, 2])
    touch(group, [first, second], 2)
    expect([group.outlasts(second, HOST, other, DISK), group.outlasts(other, DISK, second, HOST)]).toEqual([
      false,
      true,
    ])
    touch(group, [first, second], 3)
    expect([group.outlasts(second, HOST, other, DISK), group.outlasts(other, DISK, second, HOST)]).toEqual([
      true,
      false,
    ])
  })

  it('an expired one is outlasted by any, even by one that has expired', () => {
    const group = makeGroup(4, 4)
    const [a] = store(group, HOST, 1, 1, { facts: { expiresAtS: 1, priority: 9 } }) as [number]
    const [b] = store(group, DISK, 2, 1, { facts: { expiresAtS: 1 } }) as [number]
    group.sweepExpired(nowS, 0)
    // Whichever is asked for may take the other's place.
    expect([group.outlasts(a, HOST, b, DISK), group.outlasts(b, DISK, a, HOST)]).toEqual([true, true])
  })
})
