import { describe, expect, it, vi } from 'vitest'

import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import { TierBlocks } from '../../lib/blocks/tier-blocks.js'
import { errorOf } from '../support/expect-code.js'

const TIER = 1
const SLOTS = 1000

function makeGroup(): GroupBlocks {
  return new GroupBlocks({ tiers: [{ slotCount: 0 }, { slotCount: SLOTS }], policy: 'lru', prefixClosed: true })
}

/** Publishes one block of a tenant. */
function publishOne(blocks: GroupBlocks, tenant: number): number {
  const hash = Uint32Array.from({ length: 8 }, (_, word) => Math.imul(tenant + 1, 0x9e3779b1) + word)
  const entry = blocks.begin(hash, 0, -1, { depth: 0, priority: 50, expiresAtS: 0, tenant })
  blocks.assign(entry, TIER, blocks.takeFree(TIER))
  blocks.publish(entry, TIER)
  return entry
}

/** How many slots `run` looks at. */
function slotsLookedAt(run: () => void): number {
  const looks = vi.spyOn(TierBlocks.prototype, 'isRanked')
  try {
    run()
    return looks.mock.calls.length
  } finally {
    vi.restoreAllMocks()
  }
}

describe('a quota', () => {
  it('of a tenant without a block costs no look at any slot', () => {
    const blocks = makeGroup()
    publishOne(blocks, 1)
    expect(
      slotsLookedAt(() => {
        blocks.setQuota(7, TIER, 5)
        blocks.setQuota(7, TIER, Number.POSITIVE_INFINITY)
      }),
    ).toBe(0)
    blocks.check()
  })

  it('of a tenant with blocks puts them into a partition of their own, and back', () => {
    const blocks = makeGroup()
    const [mine, other] = [publishOne(blocks, 1), publishOne(blocks, 2)]
    expect(slotsLookedAt(() => blocks.setQuota(1, TIER, 1))).toBeGreaterThanOrEqual(SLOTS)
    blocks.check()
    expect([blocks.isOverQuota(1, TIER), blocks.isOverQuota(2, TIER)]).toEqual([true, false])
    blocks.setQuota(1, TIER, Number.POSITIVE_INFINITY)
    blocks.check()
    expect(blocks.isOverQuota(1, TIER)).toBe(false)
    expect([mine, other].map((entry) => blocks.holds(entry, TIER))).toEqual([true, true])
  })

  it.each([Number.NaN, -1, Number.NEGATIVE_INFINITY])('of %d slots is refused', (slots) => {
    const blocks = makeGroup()
    const error = errorOf('ERR_KV_INTERNAL', () => blocks.setQuota(1, TIER, slots))
    expect(error.message).toContain(`${slots} slots`)
    blocks.check()
  })

  it('of no slots leaves room for none', () => {
    const blocks = makeGroup()
    blocks.setQuota(1, TIER, 0)
    expect(blocks.isOverQuota(1, TIER)).toBe(true)
  })
})
