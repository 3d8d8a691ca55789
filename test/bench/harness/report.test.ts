import { describe, expect, it } from 'vitest'
import { formatNumber, isSimulated, type Report, reportText, skippedLines } from '../../../bench/harness/report.js'
import type { BenchResult } from '../../../bench/harness/types.js'

const SHARE: BenchResult = {
  suite: 'micro',
  name: 'copy with checksum',
  unit: 'GB/s',
  value: 9.876,
  limit: { name: 'memcpy', value: 10 },
  ratio: { median: 0.98, p10: 0.9, p90: 1.1 },
  better: 'higher',
  aim: { of: 'ratio', bound: 0.9 },
  met: true,
  n: 5,
  parameters: {},
}
const TIME: BenchResult = {
  ...SHARE,
  suite: 'disk',
  name: 'warm open',
  unit: 's',
  value: 0.75,
  limit: null,
  ratio: null,
  better: 'lower',
  aim: { of: 'value', bound: 0.5 },
  met: false,
}
const REPORT: Report = {
  commit: '0123456789abcdef0123',
  modified: true,
  date: '2026-01-02T03:04:05.000Z',
  machine: { cpu: 'A processor', cores: 2, memoryBytes: 2 ** 34, kernel: '6.1', node: '20.1.2', hugePages: 'madvise' },
  load: {
    before: { average: 0.5, cpuPressure: 1.25, ioPressure: null },
    after: { average: 1, cpuPressure: 2, ioPressure: 0 },
  },
  seconds: 61.4,
  simulated: false,
  results: [SHARE, TIME],
  skipped: [{ suite: 'trace', name: 'recorded: coding', reason: 'the file is not there' }],
}

describe('reportText', () => {
  const lines = reportText(REPORT).split('\n')
  const lineOf = (name: string): string => lines.find((line) => line.includes(name)) ?? ''

  it('shows value, limit, ratio, spread and aim of a row in one line', () => {
    expect(lineOf('copy with checksum').replaceAll(/ {2,}/g, '|')).toBe(
      'micro|copy with checksum|9.88|10.0|GB/s|0.980 x|0.900-1.10|>= 0.900|ok|memcpy',
    )
  })

  it('shows an aim of the value with its unit, and that it was missed', () => {
    expect(lineOf('warm open')).toMatch(/0\.750 +s +<= 0\.500 s +missed$/)
  })

  it('names machine, commit and load', () => {
    expect(lines[0]).toBe('A processor, 2 cores, 16 GiB, kernel 6.1, Node 20.1.2, 0123456789ab with changes')
    expect(lines[1]).toContain('before: load 0.5, waiting for processors 1.25 %, for disks unknown')
  })

  it('says what was skipped and why, and how many aims were reached', () => {
    expect(lines).toContain('skipped: trace, recorded: coding: the file is not there')
    expect(lines).toContain('1 of 2 aims reached in 61 s.')
  })
})

describe('formatNumber', () => {
  it('keeps three significant digits and never an exponent', () => {
    expect([123_456, 1234.5, 99.94, 9.876, 0.0123456, 0.00000012].map(formatNumber)).toEqual([
      '123456',
      '1235',
      '99.9',
      '9.88',
      '0.0123',
      '0.000000',
    ])
  })

  it('shows zero, and what is no number', () => {
    expect([0, Number.NaN, Number.POSITIVE_INFINITY].map(formatNumber)).toEqual(['0', '-', '-'])
  })
})

describe('skippedLines', () => {
  it('have one line for groups of a suite that were left out for the same reason', () => {
    const none = { suite: 'transfer', reason: 'no GPU' } as const
    const lines = skippedLines([
      { ...none, name: 'first' },
      { suite: 'trace', name: 'recorded', reason: 'no file' },
      { ...none, name: 'second' },
      { ...none, name: 'third' },
    ])
    expect(lines).toEqual(['skipped: transfer, first and 2 more: no GPU', 'skipped: trace, recorded: no file'])
  })
})

describe('a report with results of the simulated driver', () => {
  const results = [SHARE, { ...TIME, parameters: { simulated: true } }]

  it('is known as one', () => {
    expect(isSimulated(results)).toBe(true)
    expect(isSimulated([SHARE, { ...TIME, parameters: { simulated: false } }])).toBe(false)
  })

  it('says that its times say nothing about a GPU', () => {
    expect(reportText({ ...REPORT, results, simulated: true })).toContain('say nothing about a GPU')
    expect(reportText(REPORT)).not.toContain('simulated')
  })
})
