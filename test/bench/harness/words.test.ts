import { describe, expect, it } from 'vitest'
import { evenWords } from '../../../bench/harness/words.js'

describe('evenWords', () => {
  it('gives the same words for the same seed and others for another', () => {
    expect(evenWords(100, 3)).toEqual(evenWords(100, 3))
    expect(evenWords(100, 3)).not.toEqual(evenWords(100, 4))
  })

  it('spreads them over the whole range', () => {
    const counts = new Array<number>(16).fill(0)
    for (const word of evenWords(16_000, 1)) counts[word >>> 28] = (counts[word >>> 28] ?? 0) + 1
    for (const count of counts) {
      expect(count).toBeGreaterThan(850)
      expect(count).toBeLessThan(1_150)
    }
  })
})
