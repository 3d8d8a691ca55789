import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'

import { capacityOf, type ReplayResult, replayTrace } from '../../../lib/cli/replay/accounting.js'
import { loadTrace, type Trace, TraceBuilder } from '../../../lib/cli/replay/load-trace.js'
import { haveTraces, NEEDS_TRACES, tracePath } from '../../support/published-traces.js'

function traceOf(requests: readonly (readonly number[])[]): Trace {
  const builder = new TraceBuilder()
  for (const ids of requests) builder.add(ids, 0)
  return builder.finish('made-up')
}

/** LRU as one list of blocks, newest last, each block of a request touched last to first. No tree, no leaves. */
function hitsOfPlainLru(trace: Trace, capacity: number): number {
  let held: number[] = []
  let hits = 0
  for (let request = 0; request < trace.requests; request++) {
    const blocks = [...trace.nodes.subarray(trace.starts[request], trace.starts[request + 1])]
    const miss = blocks.findIndex((block) => !held.includes(block))
    hits += miss < 0 ? blocks.length : miss
    const used = blocks.slice(0, capacity)
    const others = held.filter((block) => !used.includes(block))
    const room = capacity - used.length
    held = [...(room === 0 ? [] : others.slice(-room)), ...used.toReversed()]
  }
  return hits
}

/** Random conversations: each request goes on with a path that came before, or branches off it. */
const requests = fc
  .array(fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 12 }), fc.nat({ max: 6 })), { maxLength: 60, size: 'max' })
  .map((turns) => {
    const paths: number[][] = [[]]
    let fresh = 0
    for (const [from, keep, add] of turns) {
      const before = paths[from % paths.length]!
      paths.push([...before.slice(0, keep), ...Array.from({ length: add }, () => fresh++)])
    }
    return paths.slice(1)
  })

describe('the replay', () => {
  it('gives LRU the hits of one list whose blocks are touched last to first', async () => {
    await fc.assert(
      fc.asyncProperty(requests, fc.integer({ min: 1, max: 30 }), async (paths, blocks) => {
        const trace = traceOf(paths)
        const { hits } = await replayTrace(trace, { policy: 'lru', capacity: { blocks } })
        expect(hits).toBe(hitsOfPlainLru(trace, blocks))
      }),
      { numRuns: 300 },
    )
  })

  it('reports the trace, the capacity and what was hit', async () => {
    const trace = traceOf([[1, 2, 3], [1, 2, 4], [], [1, 2, 3]])
    expect(await replayTrace(trace, { policy: 'lru', capacity: { percent: 100 } })).toEqual({
      trace: 'made-up',
      requests: 4,
      references: 9,
      uniqueBlocks: 4,
      capacityBlocks: 4,
      policy: 'lru',
      hits: 5,
      hitRatePercent: (5 / 9) * 100,
    })
  })

  it('stores no more of a request than the tier holds, and counts the rest of it among the references', async () => {
    const trace = traceOf([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [7], [1, 2]])
    const { hits, references } = await replayTrace(trace, { policy: 'lru', capacity: { blocks: 3 } })
    expect([hits, references]).toEqual([3 + 2, 15])
  })

  it('needs no more memory than the trace has blocks, whatever the capacity', async () => {
    const trace = traceOf([[1], [1]])
    const result = await replayTrace(trace, { policy: 'lru', capacity: { blocks: Number.MAX_SAFE_INTEGER } })
    expect([result.hits, result.capacityBlocks]).toEqual([1, Number.MAX_SAFE_INTEGER])
  })

  it('has no hit rate but 0 where there is no block', async () => {
    expect(await replayTrace(traceOf([[], []]), { policy: 'lru', capacity: { percent: 5 } })).toMatchObject({
      references: 0,
      capacityBlocks: 1,
      hitRatePercent: 0,
    })
  })

  it('tells how far it is, up to the end', async () => {
    const trace = traceOf(Array.from({ length: 300 }, (_, r) => Array.from({ length: 500 }, (_, i) => r * 500 + i)))
    const seen: (readonly [number, number])[] = []
    await replayTrace(trace, {
      policy: 'lru',
      capacity: { blocks: 100 },
      onProgress: (at, all) => seen.push([at, all]),
    })
    expect(seen.length).toBeGreaterThan(1)
    expect(seen.at(-1)).toEqual([300, 300])
  })

  it('refuses a policy that is not in the catalog', async () => {
    const run = replayTrace(traceOf([[1]]), { policy: 'mru', capacity: { blocks: 1 } })
    await expect(run).rejects.toMatchObject({ code: 'ERR_KV_UNKNOWN_POLICY' })
  })
})

describe('a capacity', () => {
  it('in percent is rounded to the nearest block, and at least one', () => {
    const trace = traceOf([Array.from({ length: 250 }, (_, id) => id)])
    const blocks = [0.1, 0.5, 0.6, 1, 100, 250].map((percent) => capacityOf(trace, { percent }))
    expect(blocks).toEqual([1, 1, 2, 3, 250, 625])
  })

  it('that is no positive number of whole blocks is refused', () => {
    const trace = traceOf([[1]])
    for (const blocks of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => capacityOf(trace, { blocks })).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
    }
    for (const percent of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => capacityOf(trace, { percent })).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
    }
  })
})

/** Published hit rates, both numbers in percent: `[capacity of the unique blocks, hit rate]`. */
type Published = readonly (readonly [capacity: number, rate: number])[]

const PUBLISHED: Readonly<Record<string, Readonly<Record<string, Published>>>> = {
  mooncake_conversation: {
    lru: [
      [0.5, 4.4],
      [2, 7.93],
      [5, 19.58],
      [10, 27.89],
      [50, 36.31],
    ],
    lfu: [
      [1, 5.82],
      [5, 12.67],
      [10, 19.49],
    ],
  },
  mooncake_synthetic: {
    lru: [
      [0.5, 2.0],
      [1, 3.81],
      [2, 7.78],
      [5, 15.66],
      [10, 26.23],
      [20, 39.31],
      [50, 58.88],
      [100, 63.96],
    ],
    lfu: [
      [0.5, 1.94],
      [1, 3.4],
      [2, 4.63],
      [5, 11.86],
      [10, 18.69],
      [20, 32.82],
      [50, 60.3],
      [100, 63.96],
    ],
  },
  claude_code_global_v6_b512: {
    lru: [
      [0.5, 51.31],
      [1, 80.79],
      [5, 95.13],
    ],
    lfu: [[1, 30.73]],
  },
}

describe.skipIf(!haveTraces)(`the published hit rates (${NEEDS_TRACES})`, () => {
  for (const [name, policies] of Object.entries(PUBLISHED)) {
    describe(`of ${name}`, () => {
      let trace: Trace
      beforeAll(async () => {
        trace = await loadTrace(tracePath(name))
      })
      for (const [policy, rates] of Object.entries(policies)) {
        it(`are those of ${policy} to the second decimal`, async () => {
          const results: ReplayResult[] = []
          for (const [percent] of rates) {
            results.push(await replayTrace(trace, { policy, capacity: { percent } }))
          }
          expect(results.map(({ hitRatePercent }) => hitRatePercent.toFixed(2))).toEqual(
            rates.map(([, rate]) => rate.toFixed(2)),
          )
        })
      }
    })
  }
})
