import { describe, expect, it } from 'vitest'

import { startProgress } from '../../lib/cli/progress.js'

function terminal(isTty = true) {
  const world = {
    isTty,
    columns: 40,
    clock: 0,
    written: [] as string[],
    now: () => world.clock,
    stderr: { write: (text: string) => void world.written.push(text) },
  }
  return world
}

describe('progress', () => {
  it('shows the first update at once, then at most ten a second', () => {
    const world = terminal()
    const progress = startProgress(world, 'checking', 2000)
    for (let done = 1; done <= 1000; ++done) {
      progress.update(done)
      world.clock += 1
    }
    expect(world.written).toHaveLength(10)
    expect(world.written[0]).toBe('\r\u001b[2Kchecking: 1 of 2,000, 0 %')
    expect(world.written[9]).toContain('901 of 2,000, 45 %')
  })

  it('removes its line at the end, and is silent afterwards', () => {
    const world = terminal()
    const progress = startProgress(world, 'checking', 0)
    progress.update(7)
    progress.end()
    progress.end()
    world.clock = 1e6
    progress.update(8)
    expect(world.written).toEqual(['\r\u001b[2Kchecking: 7', '\r\u001b[2K'])
  })

  it('writes nothing when there was nothing to show', () => {
    const world = terminal()
    startProgress(world, 'checking', 10).end()
    expect(world.written).toEqual([])
  })

  it('writes nothing where stderr is no terminal', () => {
    const world = terminal(false)
    const progress = startProgress(world, 'checking', 10)
    progress.update(5)
    progress.end()
    expect(world.written).toEqual([])
  })

  it('stays on one line of a narrow terminal', () => {
    const world = { ...terminal(), columns: 12 }
    startProgress(world, 'checking something with a long name', 10).update(1)
    expect(world.written[0]).toBe('\r\u001b[2Kchecking so')
  })
})
