import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { median, quantile, spreadOf } from '../../../bench/harness/statistics.js'

describe('quantile', () => {
  it('is the middle number of an odd count, whatever their order', () => {
    expect(median([9, 1, 5])).toBe(5)
  })

  it('lies between the two middle numbers of an even count', () => {
    expect(median([4, 1, 2, 3])).toBe(2.5)
  })

  it('interpolates between neighbours', () => {
    expect(quantile([0, 10, 20, 30, 40], 0.1)).toBeCloseTo(4)
    expect(quantile([0, 10, 20, 30, 40], 0.9)).toBeCloseTo(36)
  })

  it('is not a number where there are no numbers', () => {
    expect(median([])).toBeNaN()
  })

  it('sorts numbers as numbers and leaves its argument alone', () => {
    const numbers = [100, 20, 3]
    expect(median(numbers)).toBe(20)
    expect(numbers).toEqual([100, 20, 3])
  })

  it('never leaves the range of the numbers, and a larger share is never a smaller value', () => {
    const finite = fc.double({ min: -1e9, max: 1e9, noNaN: true })
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1, maxLength: 30 }), (numbers) => {
        const { median: middle, p10, p90 } = spreadOf(numbers)
        const slack = 1e-6
        expect(p10).toBeGreaterThanOrEqual(Math.min(...numbers) - slack)
        expect(middle).toBeGreaterThanOrEqual(p10 - slack)
        expect(p90).toBeGreaterThanOrEqual(middle - slack)
        expect(p90).toBeLessThanOrEqual(Math.max(...numbers) + slack)
      }),
    )
  })
})
