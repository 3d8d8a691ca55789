import { expect, test } from 'vitest'
import { DEVICE, DISK, HOST, TIER_COUNT, tierName } from '../../lib/tiers/types.ts'

test('tiers are numbered from the GPU outwards, and have names', () => {
  expect([DEVICE, HOST, DISK].map(tierName)).toEqual(['device', 'host', 'disk'])
  expect(TIER_COUNT).toBe(3)
})

test('a number that is no tier is none', () => {
  expect([-1, 3, 0.5, Number.NaN].map(tierName)).toEqual(Array(4).fill('none'))
})
