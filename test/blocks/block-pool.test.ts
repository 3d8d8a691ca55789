import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { BlockPool, NO_ENTRY, type SlotState } from '../../lib/blocks/block-pool.js'
import { errorOf } from '../support/expect-code.js'

/** A pool of one slot in each state, the slot being the state's number. */
const STATES: readonly SlotState[] = ['free', 'filling', 'evictable', 'pinned']

function poolOfAllStates(): BlockPool {
  const pool = new BlockPool(1, 4)
  for (let slot = 0; slot < 4; slot++) {
    expect(pool.take()).toBe(slot)
    pool.assign(slot, 100 + slot)
  }
  pool.release(0)
  pool.publish(2, 0)
  pool.publish(3, 1)
  expect([0, 1, 2, 3].map((slot) => pool.stateOf(slot))).toEqual(STATES)
  return pool
}

describe('a slot', () => {
  it('goes from free over filling, evictable and pinned back to free', () => {
    const pool = new BlockPool(0, 1)
    const seen = [pool.stateOf(0)]
    const slot = pool.take()
    seen.push(pool.stateOf(slot))
    expect(pool.ownerOf(slot)).toBe(NO_ENTRY)
    pool.assign(slot, 5)
    expect(pool.ownerOf(slot)).toBe(5)
    pool.publish(slot, 0)
    seen.push(pool.stateOf(slot))
    pool.pin(slot)
    pool.pin(slot)
    seen.push(pool.stateOf(slot))
    expect(pool.unpin(slot)).toBe(false)
    expect(pool.unpin(slot)).toBe(true)
    pool.release(slot)
    expect([...seen, pool.stateOf(slot)]).toEqual(['free', 'filling', 'evictable', 'pinned', 'free'])
    pool.check()
  })

  it('is pinned from the start when it is published with pins', () => {
    const pool = new BlockPool(0, 1)
    pool.assign(pool.take(), 5)
    pool.publish(0, 2)
    expect(pool.pinsOf(0)).toBe(2)
    expect(pool.unpin(0)).toBe(false)
    expect(pool.unpin(0)).toBe(true)
    expect(pool.stateOf(0)).toBe('evictable')
  })

  const allowed: Readonly<
    Record<string, { states: readonly SlotState[]; run: (pool: BlockPool, slot: number) => void }>
  > = {
    publish: { states: ['filling'], run: (pool, slot) => pool.publish(slot, 0) },
    unassign: { states: ['filling'], run: (pool, slot) => pool.unassign(slot) },
    pin: { states: ['evictable', 'pinned'], run: (pool, slot) => pool.pin(slot) },
    unpin: { states: ['pinned'], run: (pool, slot) => pool.unpin(slot) },
    release: { states: ['filling', 'evictable'], run: (pool, slot) => pool.release(slot) },
  }
  for (const [name, { states, run }] of Object.entries(allowed)) {
    it(`allows ${name} only when it is ${states.join(' or ')}`, () => {
      STATES.forEach((state, slot) => {
        const pool = poolOfAllStates()
        if (states.includes(state)) run(pool, slot)
        else {
          const { message } = errorOf('ERR_KV_INTERNAL', () => run(pool, slot))
          expect(message).toContain(`Slot ${slot} of tier 1`)
          expect(message).toContain(`it is ${state}`)
        }
        pool.check()
      })
    })
  }

  it('that has an owner cannot be assigned to another', () => {
    expect(errorOf('ERR_KV_INTERNAL', () => poolOfAllStates().assign(1, 7)).message).toContain('entry 101 has it')
  })

  it('beyond the last one is refused', () => {
    const { message } = errorOf('ERR_KV_INTERNAL', () => new BlockPool(2, 4).publish(4, 0))
    expect(message).toContain('there are 4 slots')
  })
})

describe('a pool', () => {
  it('counts its slots by state', () => {
    const pool = poolOfAllStates()
    expect(STATES.map((state) => pool.count(state))).toEqual([1, 1, 1, 1])
  })

  it('gives out every slot once and takes each back', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 20 }), { maxLength: 100 }), (sequence) => {
        const pool = new BlockPool(0, 8)
        const taken: number[] = []
        for (const choice of sequence) {
          if (choice < 12) {
            const slot = pool.take()
            expect(slot >= 0).toBe(taken.length < 8)
            if (slot >= 0) taken.push(slot)
          } else if (taken.length > 0) pool.release(taken.splice(choice % taken.length, 1)[0]!)
          expect(new Set(taken).size).toBe(taken.length)
          pool.check()
        }
      }),
    )
  })

  it('adopts a slot that is free, published and without a pin', () => {
    const pool = poolOfAllStates()
    expect(pool.adopt(0, 9)).toBe(true)
    expect(pool.stateOf(0)).toBe('evictable')
    expect(pool.ownerOf(0)).toBe(9)
    expect(pool.adopt(1, 9)).toBe(false)
    pool.check()
  })
})
