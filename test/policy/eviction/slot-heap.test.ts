import fc from 'fast-check'
import { expect, it } from 'vitest'

import { SlotHeap } from '../../../lib/policy/eviction/slot-heap.js'
import { errorOf } from '../../support/expect-code.js'

const MEMBERS = 40

it('has the least member on top after any pushes, removals and updates', () => {
  const step = fc.tuple(fc.nat({ max: MEMBERS - 1 }), fc.integer({ min: -2, max: 2 }), fc.nat({ max: 2 }))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (sequence) => {
      const heap = new SlotHeap(new Int32Array(MEMBERS), (a, b) => a > b, 2)
      const members = new Map<number, readonly [number, number]>()
      for (const [member, first, second] of sequence) {
        if (!members.has(member)) {
          heap.push(member, first, second)
          members.set(member, [first, second])
        } else if (second === 0) {
          heap.remove(member)
          members.delete(member)
        } else {
          heap.update(member, first, second)
          members.set(member, [first, second])
        }
        heap.check()
        const sorted = [...members].sort(([a, [a1, a2]], [b, [b1, b2]]) => a1 - b1 || a2 - b2 || b - a)
        expect(heap.size).toBe(members.size)
        expect(heap.top).toBe(sorted[0]?.[0] ?? -1)
        expect(heap.topFirst).toBe(sorted[0]?.[1][0] ?? Number.POSITIVE_INFINITY)
      }
    }),
  )
})

it('leads another heap by its top, and an empty one always', () => {
  const places = new Int32Array(4)
  const before = (a: number, b: number): boolean => a < b
  const [left, right] = [new SlotHeap(places, before), new SlotHeap(places, before)]
  expect(left.leads(right)).toBe(false)
  left.push(1, 5, 5)
  expect([left.leads(right), right.leads(left)]).toEqual([true, false])
  right.push(0, 5, 5)
  expect([left.leads(right), right.leads(left)]).toEqual([false, true])
  right.update(0, 5, 6)
  expect([left.leads(right), right.leads(left)]).toEqual([true, false])
})

it('refuses a member twice, and to remove one that it does not hold', () => {
  const heap = new SlotHeap(new Int32Array(4), (a, b) => a < b)
  heap.push(2, 0, 0)
  errorOf('ERR_KV_INTERNAL', () => heap.push(2, 0, 0))
  errorOf('ERR_KV_INTERNAL', () => heap.remove(1))
})
