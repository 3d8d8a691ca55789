import { describe, expect, it, vi } from 'vitest'

import { ALL_PARTITIONS, COMMON, LeafQueue, NOWHERE, PARKED, READY } from '../../../lib/policy/eviction/leaf-queue.js'
import { errorOf } from '../../support/expect-code.js'

interface Fact {
  priority?: number
  expiresAtS?: number
  depth?: number
  partition?: number
}

function makeQueue(facts: readonly Fact[], policy = 'lru'): LeafQueue {
  const queue = new LeafQueue(facts.length, policy, {
    priorityAt: (slot) => facts[slot]?.priority ?? 0,
    expiresAtS: (slot) => facts[slot]?.expiresAtS ?? 0,
    depthAt: (slot) => facts[slot]?.depth ?? 0,
    partitionAt: (slot) => facts[slot]?.partition ?? COMMON,
  })
  return queue
}

function fill(queue: LeafQueue, count: number): void {
  for (let slot = 0; slot < count; slot++) {
    queue.insert(slot, slot)
    queue.place(slot, READY)
  }
}

function order(queue: LeafQueue, nowS = 0): number[] {
  const slots: number[] = []
  for (let slot = queue.top(ALL_PARTITIONS, nowS, true); slot >= 0; slot = queue.top(ALL_PARTITIONS, nowS, true)) {
    slots.push(slot)
    queue.place(slot, NOWHERE)
    queue.check()
  }
  return slots
}

describe('the queue', () => {
  it('orders by expiry, priority, rank, depth and slot, in this order', () => {
    const queue = makeQueue([
      { priority: 9, expiresAtS: 50 },
      { priority: 1 },
      {},
      { depth: 1 },
      { depth: 1 },
      { priority: 9, expiresAtS: 40 },
      { expiresAtS: 51 },
    ])
    for (let slot = 0; slot < 7; slot++) {
      queue.insert(slot, 7)
      queue.place(slot, READY)
    }
    queue.touch(6, 8, false)
    expect(order(queue, 50)).toEqual([5, 0, 4, 3, 2, 6, 1])
  })

  it('follows what a slot is used for while it stands in it', () => {
    const queue = makeQueue([{}, {}, { expiresAtS: 9 }])
    fill(queue, 3)
    queue.touch(0, 5, true)
    queue.touch(2, 4, true)
    expect(order(queue)).toEqual([1, 2, 0])
  })

  it('hands the last use of a leaving block to its parent', () => {
    const queue = makeQueue([{}, {}, {}])
    fill(queue, 3)
    queue.place(1, NOWHERE)
    queue.touch(1, 9, true)
    queue.inherit(0, 1)
    expect(order(queue)).toEqual([2, 0])
    expect(queue.lastUse[0]).toBe(9)
  })

  it('gives parked slots only to those who ask for them too', () => {
    const queue = makeQueue([{}, {}])
    fill(queue, 2)
    queue.place(0, PARKED)
    expect(queue.top(COMMON, 0, false)).toBe(1)
    expect(queue.top(COMMON, 0, true)).toBe(0)
    queue.place(0, READY)
    expect(queue.top(ALL_PARTITIONS, 0, false)).toBe(0)
    expect([queue.standingOf(0), queue.standingOf(1)]).toEqual([READY, READY])
  })

  it('compares the tops of all partitions, or looks at one alone', () => {
    const facts: Fact[] = [{}, {}, {}, {}]
    const queue = makeQueue(facts)
    const own = queue.openPartition()
    const other = queue.openPartition()
    facts[0] = { partition: own, expiresAtS: 5 }
    facts[1] = { partition: own }
    facts[2] = { partition: other }
    fill(queue, 4)
    expect([queue.top(own, 0, false), queue.top(other, 0, false), queue.top(COMMON, 0, false)]).toEqual([0, 2, 3])
    expect(order(queue, 5)).toEqual([0, 1, 2, 3])
    queue.closePartition(own)
    expect(queue.openPartition()).toBe(own)
  })

  it('opens closed partitions again, each once, without looking through the others', () => {
    const queue = makeQueue([{}])
    const opened = Array.from({ length: 20 }, () => queue.openPartition())
    for (const partition of [3, 20, 11]) queue.closePartition(partition)
    const search = vi.spyOn(Array.prototype, 'indexOf')
    const again = [0, 1, 2, 3].map(() => queue.openPartition())
    const looked = search.mock.calls.length
    vi.restoreAllMocks()
    expect(looked).toBe(0)
    expect(opened).toEqual(Array.from({ length: 20 }, (_, place) => place + 1))
    expect(again.toSorted((a, b) => a - b)).toEqual([3, 11, 20, 21])
  })

  it('refuses to close the common partition, one that holds slots, and one that is closed', () => {
    const facts: Fact[] = [{}]
    const queue = makeQueue(facts)
    const own = queue.openPartition()
    facts[0] = { partition: own }
    fill(queue, 1)
    for (const partition of [COMMON, own, 7]) errorOf('ERR_KV_INTERNAL', () => queue.closePartition(partition))
    queue.place(0, NOWHERE)
    queue.closePartition(own)
    errorOf('ERR_KV_INTERNAL', () => queue.place(0, READY))
  })
})
