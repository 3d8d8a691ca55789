import { describe, expect, it } from 'vitest'
import { PhaseClock, secondsOf } from '../../../bench/engine/phases.js'

describe('PhaseClock', () => {
  it('gives each phase what was since the lap before, also where a phase comes twice', () => {
    let now = 100
    const clock = new PhaseClock(() => now)
    clock.start()
    for (const [phase, seconds] of [
      ['match', 1],
      ['load', 2],
      ['image', 4],
      ['engineLoad', 8],
      ['match', 16],
    ] as const) {
      now += seconds
      clock.lap(phase)
    }
    now += 32
    const phases = clock.end('evaluate')
    expect(phases).toEqual({ match: 17, load: 2, image: 4, engineLoad: 8, rest: 0, evaluate: 32 })
    expect(secondsOf(phases)).toBe(63)
    expect(secondsOf(phases, true)).toBe(23)
  })

  it('counts nothing before it is started and after it has ended', () => {
    let now = 0
    const clock = new PhaseClock(() => now++)
    clock.lap('match')
    clock.start()
    clock.end('evaluate')
    clock.lap('match')
    clock.start()
    expect(secondsOf(clock.end('evaluate'))).toBe(1)
    expect(() => clock.end('evaluate')).toThrow('No run')
  })
})
