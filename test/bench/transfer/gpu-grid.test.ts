import { describe, expect, it } from 'vitest'
import type { Gpu } from '../../../bench/harness/gpu.js'
import { resultOf } from '../../../bench/harness/rounds.js'
import {
  aimOf,
  bestName,
  bestOf,
  bestRow,
  bytesOf,
  type Cell,
  cellName,
  cellOf,
  DIRECTIONS,
  ENGINE_SUBJECTS,
  type EngineSubject,
  GRID,
  leftOut,
  MOST_BYTES,
  PEER_SUBJECTS,
  PLAIN,
  rateOf,
  sampleName,
  subjectRows,
} from '../../../bench/transfer/gpu-grid.js'
import { KiB, MiB } from '../../../lib/options.js'

const GPU: Gpu = { name: 'A GPU', driver: '13.0', library: '', simulated: false }
const SIMULATED: Gpu = { ...GPU, simulated: true }
const ENGINE = ENGINE_SUBJECTS[0] as EngineSubject
const CELL: Cell = cellOf(2 * MiB, 128)

describe('the grid', () => {
  it('goes from 1 KiB to 16 MiB, with few fragments and with as many as the most bytes have', () => {
    const sizes = [...new Set(GRID.map((cell) => cell.fragmentBytes))]
    expect([Math.min(...sizes), Math.max(...sizes)]).toEqual([KiB, 16 * MiB])
    for (const size of sizes) {
      const counts = GRID.filter((cell) => cell.fragmentBytes === size).map((cell) => cell.fragments)
      expect(Math.min(...counts)).toBe(16)
      expect(Math.max(...counts)).toBe(Math.min(MOST_BYTES / size, 65_536))
    }
  })

  it('has every cell once, none above the most bytes, and in blocks that make up its fragments', () => {
    expect(new Set(GRID.map(cellName)).size).toBe(GRID.length)
    for (const cell of GRID) {
      expect(bytesOf(cell)).toBeLessThanOrEqual(MOST_BYTES)
      expect(cell.runs * cell.blocks).toBe(cell.fragments)
      expect(Number.isInteger(cell.blocks)).toBe(true)
      expect(cell.blocks).toBeLessThanOrEqual(16_384)
    }
  })

  it('has layers of blocks below 1 MiB and whole blocks from there on', () => {
    expect(cellOf(64 * KiB, 256)).toMatchObject({ runs: 16, blocks: 16 })
    expect(cellOf(KiB, 65_536)).toMatchObject({ runs: 64, blocks: 1024 })
    expect(cellOf(MiB, 256)).toMatchObject({ runs: 1, blocks: 256 })
  })

  it('is small with --quick and on the simulated driver, and says what it leaves out', () => {
    const measured = (quick: boolean, simulated: boolean): number =>
      GRID.filter((cell) => leftOut(cell, quick, simulated) === null).length
    expect(measured(false, false)).toBe(GRID.length)
    expect(measured(true, false)).toBe(4)
    expect(measured(true, true)).toBe(2)
    for (const cell of GRID.filter((each) => leftOut(each, false, true) === null)) {
      expect(bytesOf(cell)).toBeLessThanOrEqual(MiB)
    }
    expect(leftOut(CELL, false, true)).toMatch(/simulated/)
    expect(leftOut(cellOf(MiB, 16), true, false)).toMatch(/--quick/)
  })
})

describe('a rate', () => {
  it('counts the bytes of both directions where both move at once', () => {
    expect(rateOf(cellOf(MiB, 1), 'away', 0.5)).toBeCloseTo(MiB / 0.5 / 1e9)
    expect(rateOf(cellOf(MiB, 1), 'both', 0.5)).toBeCloseTo((2 * MiB) / 0.5 / 1e9)
  })
})

describe('the rows of a subject', () => {
  it('divide its rate by that of the plain copy in the same direction', () => {
    const [rate] = subjectRows(CELL, GPU, 'towards', ENGINE)
    if (rate === undefined) throw new Error('no row')
    const samples = [
      { [sampleName('engine', 'towards', 'rate')]: 48, [sampleName(PLAIN, 'towards', 'rate')]: 50 },
      { [sampleName('engine', 'towards', 'rate')]: 49, [sampleName(PLAIN, 'towards', 'rate')]: 50 },
    ]
    const result = resultOf('transfer', rate, samples)
    expect(result.ratio?.median).toBeCloseTo(0.97)
    expect(result).toMatchObject({ unit: 'GB/s', limit: { value: 50 }, parameters: { simulated: false } })
  })

  it('have the processor time of one transfer', () => {
    const [, cpu] = subjectRows(CELL, GPU, 'away', ENGINE)
    expect(cpu).toMatchObject({ unit: 'us', subject: 'engine away cpu', better: 'lower' })
  })

  it('claim no share of anything on the simulated driver', () => {
    for (const subject of [...ENGINE_SUBJECTS, ...PEER_SUBJECTS]) {
      for (const row of [...subjectRows(CELL, SIMULATED, 'away', subject), bestRow(CELL, SIMULATED, 'away')]) {
        expect(row).toMatchObject({ limit: null, aim: null, parameters: { simulated: true } })
      }
    }
  })

  it('have names and samples of their own', () => {
    const rows = DIRECTIONS.flatMap((direction) =>
      [...ENGINE_SUBJECTS, ...PEER_SUBJECTS].flatMap((subject) => subjectRows(CELL, GPU, direction, subject)),
    )
    expect(new Set(rows.map((row) => row.name)).size).toBe(rows.length)
    expect(new Set(rows.map((row) => row.subject)).size).toBe(rows.length)
  })
})

describe('the best of the others', () => {
  it('is the fastest of a round, and what the engine is held against', () => {
    const sample = { 'loop away rate': 10, 'batch-any away rate': 40, 'copier away rate': 90 }
    expect(bestOf(sample, ['loop', 'batch-any'], 'away')).toBe(40)
    expect(bestRow(CELL, GPU, 'away')).toMatchObject({
      limit: { sample: bestName('away') },
      aim: { of: 'ratio', bound: 0.97 },
    })
  })

  it('is not a number where one of them was not measured', () => {
    expect(bestOf({ 'loop away rate': 10 }, ['loop', 'batch-any'], 'away')).toBeNaN()
  })
})

describe('the aim', () => {
  it('is 0.97 of the plain copy for whole blocks of 2 MiB, and 0.9 for layers of 4 to 64 KiB', () => {
    expect(aimOf(CELL, 'away')?.bound).toBe(0.97)
    for (const size of [4 * KiB, 64 * KiB]) expect(aimOf(cellOf(size, 4096), 'towards')?.bound).toBe(0.9)
  })

  it('is not there for other sizes, for few bytes, and for both directions at once', () => {
    expect(aimOf(cellOf(KiB, 65_536), 'away')).toBeNull()
    expect(aimOf(cellOf(64 * KiB, 16), 'away')).toBeNull()
    expect(aimOf(CELL, 'both')).toBeNull()
  })
})
