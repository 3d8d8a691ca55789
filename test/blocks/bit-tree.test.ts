import fc from 'fast-check'
import { expect, it } from 'vitest'

import { BitTree } from '../../lib/blocks/bit-tree.js'

it('finds the next member as a sorted set does', () => {
  const sizes = fc.constantFrom(1, 31, 32, 33, 1024, 1025, 33_000)
  const changes = fc.array(fc.tuple(fc.boolean(), fc.nat({ max: 40_000 })), { maxLength: 60 })
  fc.assert(
    fc.property(sizes, fc.boolean(), changes, (size, full, steps) => {
      const tree = new BitTree(size)
      if (full) tree.fill()
      const members = new Set(full ? Array.from({ length: size }, (_, member) => member) : [])
      for (const [add, number] of steps) {
        const member = number % size
        tree[add ? 'add' : 'remove'](member)
        members[add ? 'add' : 'delete'](member)
        expect(tree.has(member)).toBe(add)
      }
      const sorted = [...members].sort((a, b) => a - b)
      for (const from of [0, 1, size >> 1, size - 1, size, ...steps.map(([, number]) => number % size)]) {
        expect(tree.firstFrom(from)).toBe(sorted.find((member) => member >= from) ?? -1)
      }
    }),
  )
})

it('says of a word of 32 whether all of it is there', () => {
  const tree = new BitTree(40)
  tree.fill()
  expect(tree.hasWholeWord(5)).toBe(true)
  expect(tree.hasWholeWord(35)).toBe(false)
  tree.remove(31)
  expect(tree.hasWholeWord(5)).toBe(false)
})

it('has no member when there are none to have', () => {
  const tree = new BitTree(0)
  tree.fill()
  expect(tree.firstFrom(0)).toBe(-1)
})
