import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nextUses, optimumHits } from '../../../bench/trace/optimum.js'
import { plainLruHits } from '../../../bench/trace/plain-lru.js'
import { type Trace, TraceBuilder } from '../../../lib/cli/replay/load-trace.js'

function traceOf(requests: readonly (readonly number[])[]): Trace {
  const builder = new TraceBuilder()
  for (const ids of requests) builder.add(ids, 0)
  return builder.finish('test')
}

/** Every set of at most `capacity` nodes of `nodes`. */
function subsets(nodes: readonly number[], capacity: number): number[][] {
  const sets: number[][] = [[]]
  for (const node of nodes) {
    for (const set of sets.filter((each) => each.length < capacity)) sets.push([...set, node])
  }
  return sets
}

/** The most hits there can be, by trying every choice of what to keep after every request. */
function bestOfAll(trace: Trace, capacity: number): number {
  let states = new Map<string, { nodes: number[]; hits: number }>([['', { nodes: [], hits: 0 }]])
  for (let request = 0; request < trace.requests; request++) {
    const path = [...trace.nodes.subarray(trace.starts[request], trace.starts[request + 1])]
    const next = new Map<string, { nodes: number[]; hits: number }>()
    for (const { nodes, hits } of states.values()) {
      const first = path.findIndex((node) => !nodes.includes(node))
      const now = hits + (first < 0 ? path.length : first)
      const choices = [...new Set([...nodes, ...path.slice(0, capacity)])].sort((a, b) => a - b)
      for (const kept of subsets(choices, capacity)) {
        const key = kept.join()
        const known = next.get(key)
        if (known === undefined || known.hits < now) next.set(key, { nodes: kept, hits: now })
      }
    }
    states = next
  }
  return Math.max(...[...states.values()].map((state) => state.hits))
}

/** Small traces in which requests share prefixes: ids are chained by the trace itself. */
const requests = fc.array(fc.array(fc.nat({ max: 2 }), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 7 })

describe('nextUses', () => {
  it('says for every reference which request has the block next', () => {
    const trace = traceOf([
      [1, 2],
      [1, 3],
      [1, 2],
    ])
    expect([...nextUses(trace)]).toEqual([1, 2, 2, 3, 3, 3])
  })
})

describe('the optimum', () => {
  it('is what trying every choice finds', () => {
    fc.assert(
      fc.property(requests, fc.integer({ min: 1, max: 3 }), (lists, capacity) => {
        const trace = traceOf(lists)
        expect(optimumHits(trace, capacity)).toBe(bestOfAll(trace, capacity))
      }),
      { numRuns: 300 },
    )
  })

  it('is never less than a plain LRU has', () => {
    const larger = fc.array(fc.array(fc.nat({ max: 4 }), { maxLength: 12 }), { minLength: 1, maxLength: 60 })
    fc.assert(
      fc.property(larger, fc.integer({ min: 1, max: 30 }), (lists, capacity) => {
        const trace = traceOf(lists)
        expect(optimumHits(trace, capacity)).toBeGreaterThanOrEqual(plainLruHits(trace, capacity))
      }),
    )
  })

  it('has every reuse when everything fits', () => {
    const trace = traceOf([
      [1, 2, 3],
      [1, 2, 4],
      [1, 2, 3],
    ])
    expect(optimumHits(trace, 10)).toBe(5)
  })

  it('does not store what nobody asks for again', () => {
    // One slot: the first block is worth keeping while other prompts come and go.
    expect(optimumHits(traceOf([[1], [2], [3], [1]]), 1)).toBe(1)
  })
})
