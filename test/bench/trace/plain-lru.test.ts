import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { plainLruHits } from '../../../bench/trace/plain-lru.js'
import { replayTrace } from '../../../lib/cli/replay/accounting.js'
import { TraceBuilder } from '../../../lib/cli/replay/load-trace.js'

describe('plainLruHits', () => {
  it('forgets the block whose last use is longest ago', () => {
    const builder = new TraceBuilder()
    for (const ids of [[1], [2], [1], [3], [1], [2]]) builder.add(ids, 0)
    expect(plainLruHits(builder.finish('test'), 2)).toBe(2)
  })

  it('has exactly the hits of the accounting with the policy lru', async () => {
    const requests = fc.array(fc.array(fc.nat({ max: 5 }), { maxLength: 10 }), { minLength: 1, maxLength: 80 })
    await fc.assert(
      fc.asyncProperty(requests, fc.integer({ min: 1, max: 40 }), async (lists, capacity) => {
        const builder = new TraceBuilder()
        for (const ids of lists) builder.add(ids, 0)
        const trace = builder.finish('test')
        const { hits } = await replayTrace(trace, { capacity: { blocks: capacity }, policy: 'lru' })
        expect(plainLruHits(trace, capacity)).toBe(hits)
      }),
    )
  })
})
