import timers, { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Stretches, watchCompletions, watchMethods, watchTurns } from '../../../bench/engine/stretches.js'
import { openBinding } from '../../../bench/harness/native.js'
import { Completions, completions } from '../../../lib/native/completions.js'

/** A clock that goes only when it is told to. */
class Clock {
  seconds = 0
  readonly now = (): number => this.seconds
}

describe('a stretch', () => {
  it('lasts until no microtask is left, however many follow each other', async () => {
    const clock = new Clock()
    const stretches = new Stretches(clock.now)
    stretches.enter()
    for (let i = 0; i < 10; i++) {
      await undefined
      clock.seconds++
    }
    await nextTurn()
    clock.seconds += 100
    expect(stretches.longest).toBe(10)
    expect(stretches.count).toBe(1)
  })

  it('is the same when control comes again before it ends, and another in a later turn; the longest counts', async () => {
    const clock = new Clock()
    const stretches = new Stretches(clock.now)
    for (const seconds of [3, 5, 2]) {
      stretches.enter()
      clock.seconds += seconds - 1
      stretches.enter()
      clock.seconds++
      await nextTurn()
    }
    expect(stretches.longest).toBe(5)
    expect(stretches.count).toBe(3)
    stretches.reset()
    expect(stretches).toMatchObject({ longest: 0, count: 0 })
  })

  it("leaves out what the engine's methods do before they return, and begins with their results", async () => {
    const clock = new Clock()
    const stretches = new Stretches(clock.now)
    const engine = {
      async save() {
        clock.seconds += 50
        await nextTurn()
        clock.seconds += 70
        return 'saved'
      },
    }
    watchMethods(stretches, engine, ['save'])
    stretches.enter()
    clock.seconds += 1
    const saved = engine.save()
    clock.seconds += 2
    expect(await saved).toBe('saved')
    clock.seconds += 4
    await nextTurn()
    expect(stretches.longest).toBe(4)
    expect(stretches.count).toBe(2)
  })

  it('begins with what the addon reports, until that is not watched any more', async () => {
    const clock = new Clock()
    const stretches = new Stretches(clock.now)
    const { batch } = Completions.prototype
    const unwatch = watchCompletions(stretches)
    const native = openBinding()
    const probe = (): Promise<unknown> => completions().call((ticket) => native.startProbe(ticket, ''))
    await probe()
    clock.seconds += 6
    await nextTurn()
    expect(stretches.longest).toBe(6)
    unwatch()
    expect(Completions.prototype.batch).toBe(batch)
    stretches.reset()
    await probe()
    await nextTurn()
    expect(stretches.count).toBe(0)
  })

  it('goes on after a turn that was waited for, until that is not watched any more', async () => {
    const clock = new Clock()
    const stretches = new Stretches(clock.now)
    const turn = timers.setImmediate
    const unwatch = watchTurns(stretches)
    expect(await nextTurn('again')).toBe('again')
    clock.seconds += 3
    unwatch()
    await nextTurn()
    expect(stretches.longest).toBe(3)
    expect(stretches.count).toBe(1)
    expect(timers.setImmediate).toBe(turn)
  })

  it('cannot be watched in a method that the engine does not have', () => {
    expect(() => watchMethods(new Stretches(() => 0), {}, ['saveStateToFile'])).toThrow('no method saveStateToFile')
  })
})
