import fc from 'fast-check'
import { expect, it } from 'vitest'

import { FreeSlots } from '../../lib/blocks/free-slots.js'

function takeMany(free: FreeSlots, count: number): number[] {
  return Array.from({ length: count }, () => free.take())
}

it('hands out ascending consecutive slots from an empty tier', () => {
  expect(takeMany(new FreeSlots(100), 100)).toEqual(Array.from({ length: 100 }, (_, slot) => slot))
})

it('has nothing to hand out when all are taken, and then what comes back', () => {
  const free = new FreeSlots(3)
  takeMany(free, 3)
  expect(free.take()).toBe(-1)
  free.release(1)
  expect(free.take()).toBe(1)
  expect(new FreeSlots(0).take()).toBe(-1)
})

it('prefers 32 free slots in a row to scattered ones, and uses those when there is no such row', () => {
  const free = new FreeSlots(256)
  takeMany(free, 256)
  for (const slot of [3, 7, 11]) free.release(slot)
  for (let slot = 128; slot < 160; slot++) free.release(slot)
  expect(takeMany(free, 35)).toEqual([...Array.from({ length: 32 }, (_, i) => 128 + i), 3, 7, 11])
})

it('hands out what a sequence freed, its last block first, in ascending order again', () => {
  const free = new FreeSlots(512)
  takeMany(free, 512)
  for (let slot = 299; slot >= 200; slot--) free.release(slot)
  const slots = takeMany(free, 100)
  const breaks = slots.filter((slot, i) => i > 0 && slot !== slots[i - 1]! + 1).length
  expect(new Set(slots)).toEqual(new Set(Array.from({ length: 100 }, (_, i) => 200 + i)))
  expect(breaks).toBeLessThanOrEqual(2)
})

it('keeps a slot either free or taken, whatever happens to it', () => {
  const steps = fc.array(fc.tuple(fc.constantFrom('take', 'claim', 'release'), fc.nat({ max: 69 })), {
    maxLength: 300,
  })
  fc.assert(
    fc.property(steps, (sequence) => {
      const free = new FreeSlots(70)
      const taken = new Set<number>()
      for (const [operation, slot] of sequence) {
        if (operation === 'release') {
          if (taken.delete(slot)) free.release(slot)
        } else if (operation === 'claim') {
          expect(free.claim(slot)).toBe(!taken.has(slot))
          taken.add(slot)
        } else {
          const got = free.take()
          expect(got >= 0).toBe(taken.size < 70)
          expect(taken.has(got)).toBe(false)
          if (got >= 0) taken.add(got)
        }
        expect(free.count).toBe(70 - taken.size)
      }
    }),
  )
})
