import { describe, expect, test } from 'vitest'
import { Speeds } from '../../../lib/connectors/node-llama-cpp/speeds.ts'

describe('an onboard is slower than computing', () => {
  test('never where one of both speeds is not known', () => {
    const speeds = new Speeds()
    expect(speeds.isSlower('host', 1000, 1)).toBe(false)
    speeds.computed(100, 1)
    expect(speeds.isSlower('host', 1000, 1)).toBe(false)
    speeds.onboarded('disk', 100, 1e6)
    expect(speeds.isSlower('host', 1000, 1)).toBe(false)
    expect(speeds.isSlower('disk', 1000, 1)).toBe(true)
  })

  test('where all that is loaded takes longer than what is gained', () => {
    const speeds = new Speeds()
    speeds.computed(100, 1000)
    speeds.onboarded('host', 100, 100)
    expect(speeds.figures).toEqual({ compute: 10, host: 1, disk: null })
    expect(speeds.isSlower('host', 1000, 101)).toBe(false)
    expect(speeds.isSlower('host', 1000, 99)).toBe(true)
  })

  test('not for ever after one slow moment', () => {
    const speeds = new Speeds()
    speeds.computed(100, 1000)
    speeds.onboarded('host', 1, 1000)
    let tries = 0
    while (speeds.isSlower('host', 100, 100)) tries++
    expect(tries).toBeGreaterThan(0)
    expect(tries).toBeLessThan(100)
  })
})

describe('a speed', () => {
  test('is not taken from few tokens, from no time or from no tokens', () => {
    const speeds = new Speeds()
    speeds.computed(31, 1000)
    speeds.computed(100, 0)
    speeds.computed(100, Number.NaN)
    speeds.onboarded('host', 0, 10)
    expect(speeds.figures).toEqual({ compute: null, host: null, disk: null })
  })

  test('follows what is seen, a part at a time', () => {
    const speeds = new Speeds()
    speeds.computed(100, 1000)
    speeds.computed(100, 2000)
    expect(speeds.figures.compute).toBeCloseTo(13)
  })
})
