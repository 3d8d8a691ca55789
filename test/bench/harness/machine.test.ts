import { tmpdir } from 'node:os'
import { describe, expect, it } from 'vitest'
import { loadNow, machineOf, pressureOf, sourcesOf } from '../../../bench/harness/machine.js'

describe('pressureOf', () => {
  it('is the share of the last ten seconds in which some thread waited', () => {
    const text = 'some avg10=12.50 avg60=3.00 avg300=1.00 total=5\nfull avg10=7.00 avg60=0.00 avg300=0.00 total=0\n'
    expect(pressureOf(text)).toBe(12.5)
  })

  it('is null where the system has no such file, or another text in it', () => {
    expect(pressureOf(null)).toBeNull()
    expect(pressureOf('nothing here')).toBeNull()
  })
})

describe('the machine', () => {
  it('has a processor, cores and memory', () => {
    const machine = machineOf()
    expect(machine.cpu).not.toBe('')
    expect(machine.cores).toBeGreaterThanOrEqual(1)
    expect(machine.memoryBytes).toBeGreaterThan(0)
    expect(machine.node).toBe(process.versions.node)
  })

  it('has a load', () => {
    expect(loadNow().average).toBeGreaterThanOrEqual(0)
  })
})

describe('sourcesOf', () => {
  it('has no commit outside of a repository', () => {
    expect(sourcesOf(tmpdir())).toEqual({ commit: null, modified: false })
  })
})
