import { describe, expect, it } from 'vitest'
import { PHASE_NAMES } from '../../../bench/engine/phases.js'
import { restoreRows, restoreSample } from '../../../bench/engine/restore.js'
import { resultOf } from '../../../bench/harness/rounds.js'

const LENGTH = { tokens: 512, suffix: 7, whole: 87 } as const
const SECONDS = { match: 0.001, load: 0.002, image: 0.003, engineLoad: 0.01, rest: 0.004, evaluate: 0.08 }

function samples(): Record<string, number> {
  const sample: Record<string, number> = { 'prefill rate': 512 / 2 }
  for (const key of ['host', 'host64', 'hostWhole', 'disk', 'diskWhole'])
    Object.assign(sample, restoreSample(key, 512, SECONDS))
  return sample
}

describe('the rows of a restored prompt', () => {
  const rows = restoreRows(LENGTH, { model: 'large, q8_0' }, true)
  const results = rows.map((row) => resultOf('engine', row, [samples()]))

  it('have samples, and names that no other row has', () => {
    expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length)
    for (const result of results) expect(result.value).toBeGreaterThan(0)
  })

  it('say how many times faster than computing it a prompt is back, and what it should be from host memory', () => {
    const find = (what: string) => results.find((result) => result.name === `${what} from host memory`)
    for (const evaluated of [16, 64]) {
      const suffix = find(`restore 512 tokens but ${evaluated}`)
      expect(suffix).toMatchObject({ aim: { of: 'ratio', bound: 7 }, met: true, parameters: { evaluated } })
      expect(suffix?.ratio?.median).toBeCloseTo(2 / 0.1)
    }
    const whole = find('full hit of 512 tokens')
    expect(whole).toMatchObject({ aim: { of: 'ratio', bound: 87 }, met: false, parameters: { evaluated: 1 } })
  })

  it('of other weights have names of their own', () => {
    const others = restoreRows(LENGTH, { model: 'large, f16' }, true, ', f16 weights')
    const names = [...rows, ...others].map(({ name }) => name)
    expect(new Set(names).size).toBe(2 * rows.length)
  })

  it('have no aims with another model', () => {
    expect(restoreRows(LENGTH, {}, false).filter(({ aim }) => aim !== null)).toEqual([])
  })

  it("count everything but the engine's own load and evaluation as outside of it", () => {
    const outside = results.find(({ name }) => name === 'full hit of 512 tokens from disk: outside llama.cpp')
    expect(outside?.value).toBeCloseTo(10)
    expect(outside?.ratio?.median).toBeCloseTo(0.1)
  })

  it("say what ratio the engine's own work allows", () => {
    const bound = results.find(
      ({ name }) => name === 'restore 512 tokens but 16 from host memory: if all but llama.cpp took no time',
    )
    expect(bound?.ratio?.median).toBeCloseTo(2 / 0.09)
  })

  it('have phases that make up the whole', () => {
    const shares = PHASE_NAMES.map((phase) => results[rows.findIndex(({ subject }) => subject === `host ${phase}`)])
    expect(shares.reduce((sum, result) => sum + (result?.ratio?.median ?? Number.NaN), 0)).toBeCloseTo(1)
  })
})
