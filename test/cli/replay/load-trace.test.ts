import fc from 'fast-check'
import { expect, it } from 'vitest'

import { loadTrace, TraceBuilder } from '../../../lib/cli/replay/load-trace.js'
import { haveTraces, NEEDS_TRACES, tracePath } from '../../support/published-traces.js'

it('makes one node for each path of ids, numbered by first appearance', () => {
  const id = fc.oneof(fc.nat({ max: 3 }), fc.constantFrom(2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER))
  fc.assert(
    fc.property(fc.array(fc.array(id, { maxLength: 12 }), { maxLength: 80, size: 'max' }), (requests) => {
      const builder = new TraceBuilder()
      for (const [at, ids] of requests.entries()) builder.add(ids, at)
      const trace = builder.finish('t')
      const numbers = new Map<string, number>()
      const expected = requests.flatMap((ids) =>
        ids.map((_, i) => {
          const path = ids.slice(0, i + 1).join()
          if (!numbers.has(path)) numbers.set(path, numbers.size)
          return numbers.get(path)
        }),
      )
      expect([...trace.nodes]).toEqual(expected)
      expect(trace.uniqueBlocks).toBe(numbers.size)
      expect([trace.requests, trace.references]).toEqual([requests.length, expected.length])
      expect(trace.longestRequest).toBe(Math.max(0, ...requests.map((ids) => ids.length)))
      const lengths = requests.map((_, r) => trace.starts[r + 1]! - trace.starts[r]!)
      expect(lengths).toEqual(requests.map((ids) => ids.length))
      expect([...trace.timestampsMs]).toEqual(requests.map((_, at) => at))
    }),
  )
})

it('tells thousands of nodes apart that have the same id', () => {
  const builder = new TraceBuilder()
  for (let request = 0; request < 50; request++) builder.add([request, ...new Array<number>(100).fill(7)], 0)
  expect(builder.finish('t').uniqueBlocks).toBe(50 * 101)
})

it.skipIf(!haveTraces)(`counts what is published of the conversation trace (${NEEDS_TRACES})`, async () => {
  const trace = await loadTrace(tracePath('mooncake_conversation'))
  expect(trace.name).toBe('mooncake_conversation')
  expect([trace.requests, trace.references, trace.uniqueBlocks]).toEqual([12_031, 288_500, 182_790])
  expect([trace.longestRequest, trace.timestampsMs.at(-1)]).toEqual([247, 3_536_999])
})
