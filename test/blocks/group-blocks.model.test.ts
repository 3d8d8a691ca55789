/** lib/blocks against a plain model, over random sequences of everything it can do. */
import fc from 'fast-check'
import { describe, it } from 'vitest'

import { GroupWorld, PRESSURE, type Step, steps, type WorldOptions } from '../support/group-world.js'

function runAll(options: WorldOptions, sequence: readonly Step[]): void {
  const world = new GroupWorld(options)
  for (const step of sequence) world.run(step)
}

function holds(options: WorldOptions, numRuns: number, operations?: readonly Step[0][]): void {
  fc.assert(
    fc.property(steps(120, operations), (sequence) => runAll(options, sequence)),
    { numRuns },
  )
}

describe('a group whose blocks need their parents', () => {
  for (const policy of ['lru', 'lfu', 'fifo']) {
    it(`accounts for one tier under ${policy} as the model does`, () => {
      holds({ policy, closed: true, slotCounts: [9] }, 80)
    })
    it(`accounts for three tiers under ${policy} as the model does`, () => {
      holds({ policy, closed: true, slotCounts: [5, 0, 9, 12] }, 120)
    })
    it(`orders two tiers under pressure and ${policy} as the model does`, () => {
      holds({ policy, closed: true, slotCounts: [9, 14] }, 120, PRESSURE)
    })
  }
})

describe('a group whose blocks need no parent', () => {
  for (const policy of ['lru', 'lfu', 'fifo']) {
    it(`accounts for two tiers under ${policy} as the model does`, () => {
      holds({ policy, closed: false, slotCounts: [6, 12] }, 60)
    })
  }
})
