import { describe, expect, it } from 'vitest'
import { reaches, resultOf, runGroup, runRounds } from '../../../bench/harness/rounds.js'
import type { Row, Sample } from '../../../bench/harness/types.js'

const ROW: Row = {
  name: 'copy',
  unit: 'GB/s',
  subject: 'ours',
  limit: { name: 'memcpy', sample: 'theirs' },
  better: 'higher',
  aim: { of: 'ratio', bound: 0.9 },
  parameters: { blocks: 4 },
}

describe('runRounds', () => {
  it('runs the measures in turns, every second round the other way round, after a warm-up that does not count', async () => {
    const order: string[] = []
    const measure = (name: string) => (round: number) => {
      order.push(`${name}${round}`)
      return { [name]: round }
    }
    const samples = await runRounds([measure('a'), measure('b')], 3)
    expect(order).toEqual(['b-1', 'a-1', 'a0', 'b0', 'b1', 'a1', 'a2', 'b2'])
    expect(samples).toEqual([
      { a: 0, b: 0 },
      { a: 1, b: 1 },
      { a: 2, b: 2 },
    ])
  })

  it('waits for a measure before it starts the next one', async () => {
    let running = 0
    const measure = async () => {
      expect(++running).toBe(1)
      await Promise.resolve()
      running--
      return {}
    }
    await runRounds([measure, measure], 2)
  })

  it('tells how many rounds are done', async () => {
    const told: number[] = []
    await runRounds([() => ({})], 3, (done) => told.push(done))
    expect(told).toEqual([0, 1, 2, 3])
  })
})

describe('resultOf', () => {
  it('takes the median of the ratios of the rounds, not the ratio of the medians', () => {
    const samples = [
      { ours: 1, theirs: 1 },
      { ours: 4, theirs: 2 },
      { ours: 3, theirs: 6 },
    ]
    const result = resultOf('micro', ROW, samples)
    expect(result.ratio?.median).toBe(1)
    expect(result.value).toBe(3)
    expect(result.limit).toEqual({ name: 'memcpy', value: 2 })
    expect(result.n).toBe(3)
  })

  it('has neither ratio nor limit for a part of something else', () => {
    const result = resultOf('disk', { ...ROW, limit: null, aim: null }, [{ ours: 2 }])
    expect(result).toMatchObject({ value: 2, limit: null, ratio: null, aim: null, met: null })
  })

  it('refuses a row whose sample no measure gives', () => {
    expect(() => resultOf('micro', { ...ROW, subject: 'nobody' }, [{ ours: 1, theirs: 1 }])).toThrow(/nobody/)
  })
})

describe('an aim', () => {
  it('is reached by a share that is not smaller, and by a cost that is not larger', () => {
    const aim = { of: 'ratio', bound: 0.9 } as const
    expect(reaches(aim, 'higher', 0, 0.9)).toBe(true)
    expect(reaches(aim, 'higher', 0, 0.89)).toBe(false)
    expect(reaches(aim, 'lower', 0, 0.9)).toBe(true)
    expect(reaches(aim, 'lower', 0, 0.91)).toBe(false)
  })

  it('of the value does not look at the ratio', () => {
    expect(reaches({ of: 'value', bound: 0.5 }, 'lower', 0.4, 70)).toBe(true)
    expect(reaches({ of: 'value', bound: 0.5 }, 'lower', 0.6, 0.1)).toBe(false)
  })

  it('of a ratio is not reached where there is none', () => {
    expect(reaches({ of: 'ratio', bound: 0.5 }, 'higher', 9, null)).toBe(false)
  })
})

describe('runGroup', () => {
  it('gives one result a row, of the rounds that were asked for', async () => {
    const group = { rows: [ROW], measures: [() => ({ ours: 9 }), () => ({ theirs: 10 })], close: () => undefined }
    const results = await runGroup('micro', group, 5)
    expect(results).toHaveLength(1)
    expect(results[0]).toMatchObject({ suite: 'micro', name: 'copy', value: 9, met: true, n: 5 })
  })

  it('gives rows what is derived from all samples of a round', async () => {
    const group = {
      rows: [{ ...ROW, limit: { name: 'the best', sample: 'best' } }],
      measures: [() => ({ ours: 9 }), () => ({ first: 10, second: 12 })],
      derive: (sample: Sample) => ({ best: Math.max(sample.first ?? 0, sample.second ?? 0) }),
      close: () => undefined,
    }
    const [result] = await runGroup('micro', group, 5)
    expect(result).toMatchObject({ ratio: { median: 0.75 }, limit: { value: 12 } })
  })
})
