/**
 * What the benchmarks of a GPU's copies measure: the grid, the subjects, and the rows made of their samples. Pure
 * functions.
 */
import type { CopyStrategyName } from '../../lib/device-options.js'
import { KiB, MiB } from '../../lib/options.js'
import type { Gpu } from '../harness/gpu.js'
import type { DeviceWay } from '../harness/limits.js'
import { sizeName } from '../harness/store.js'
import type { Aim, Parameters, Row, Sample } from '../harness/types.js'

/** From the GPU, to the GPU, or both at once. */
export const DIRECTIONS = ['away', 'towards', 'both'] as const
/** One of {@link DIRECTIONS}. */
export type Direction = (typeof DIRECTIONS)[number]

/** Fragments of one size: blocks of so many runs, each run of a block in a region of its own. */
export interface Cell {
  readonly fragmentBytes: number
  readonly fragments: number
  readonly runs: number
  readonly blocks: number
}

/** Most bytes of a transfer. */
export const MOST_BYTES = 256 * MiB
/** Most bytes and fragments on the simulated driver, where only right and wrong count. */
const MOST_SIMULATED = { bytes: MiB, fragments: 256 }
/** From here on a fragment is a whole block. */
const WHOLE_BLOCK_BYTES = MiB
/** Fewer bytes are about how long a transfer takes to begin, and have no aim. */
const LEAST_BYTES_OF_AIM = 16 * MiB
const MOST_RUNS = 64

/** About as many runs as blocks; whole blocks have one. */
export function cellOf(fragmentBytes: number, fragments: number): Cell {
  const runs = fragmentBytes >= WHOLE_BLOCK_BYTES ? 1 : Math.min(MOST_RUNS, 2 ** Math.floor(Math.log2(fragments) / 2))
  return { fragmentBytes, fragments, runs, blocks: fragments / runs }
}

/** 1 KiB to 16 MiB, by fours and 2 MiB: 16, 256 and 4,096 of them, and as many as make the most bytes (65,536 at most). */
export const GRID: readonly Cell[] = [1, 4, 16, 64, 256, 1024, 2048, 4096, 16_384].flatMap((kibibytes) => {
  const most = Math.min(MOST_BYTES / (kibibytes * KiB), 65_536)
  const counts = new Set([16, 256, 4096].filter((count) => count < most)).add(most)
  return [...counts].map((count) => cellOf(kibibytes * KiB, count))
})

const QUICK: readonly Cell[] = [
  cellOf(KiB, 16),
  cellOf(4 * KiB, 256),
  cellOf(64 * KiB, 4096),
  cellOf(2 * MiB, MOST_BYTES / (2 * MiB)),
]

/** Bytes of one transfer in one direction. */
export function bytesOf(cell: Cell): number {
  return cell.fragmentBytes * cell.fragments
}

/** `64 KiB x 256`. */
export function cellName(cell: Cell): string {
  return `${sizeName(cell.fragmentBytes)} x ${cell.fragments}`
}

/** Why a cell is not measured; null where it is. */
export function leftOut(cell: Cell, quick: boolean, simulated: boolean): string | null {
  if (quick && !QUICK.some((each) => cellName(each) === cellName(cell))) return 'left out by --quick'
  const isSmall = bytesOf(cell) <= MOST_SIMULATED.bytes && cell.fragments <= MOST_SIMULATED.fragments
  return simulated && !isSmall ? 'too large for the simulated driver, which shows only whether bytes are right' : null
}

/** Transfers through kvtier's engine: calibrated, with the checksum as well, or with one strategy and no other. */
export interface EngineSubject {
  readonly key: string
  readonly name: string
  readonly checked: boolean
  readonly strategy: CopyStrategyName | null
  /** The limit's way that can be gone wherever the strategy can. */
  readonly needs: DeviceWay | null
}

/** A way in which comparable systems queue copies, or our copier without the engine. */
export interface PeerSubject {
  readonly key: string
  readonly name: string
  readonly way: DeviceWay
  readonly kernelBlocks: number
  readonly isPeer: boolean
}

function only(strategy: CopyStrategyName, needs: DeviceWay): EngineSubject {
  return { key: `only-${strategy}`, name: `engine, only ${strategy}`, checked: false, strategy, needs }
}

/** See {@link EngineSubject}. */
export const ENGINE_SUBJECTS: readonly EngineSubject[] = [
  { key: 'engine', name: 'engine', checked: false, strategy: null, needs: null },
  { key: 'engine-checked', name: 'engine, with the checksum', checked: true, strategy: null, needs: null },
  only('single', 'coalesced'),
  only('rectangle', 'rectangle'),
  only('batch', 'batch-stream'),
  only('kernel', 'kernel'),
  only('staged', 'staged'),
]

function peer(key: string, name: string, way: DeviceWay, kernelBlocks = 1): PeerSubject {
  return { key, name, way, kernelBlocks, isPeer: true }
}

/** See {@link PeerSubject}. */
export const PEER_SUBJECTS: readonly PeerSubject[] = [
  peer('loop', 'a copy a fragment', 'loop'),
  peer('batch-stream', 'batch copies, stream order', 'batch-stream'),
  peer('batch-any', 'batch copies, any order', 'batch-any'),
  peer('coalesced', 'merged runs, a copy each', 'coalesced'),
  peer('rectangle', 'two-dimensional copies', 'rectangle'),
  peer('kernel-2', 'kernel of 2 thread blocks', 'kernel', 2),
  peer('kernel-4', 'kernel of 4 thread blocks', 'kernel', 4),
  peer('kernel-1024', 'kernel of 1024 thread blocks', 'kernel', 1024),
  peer('staged-4', 'staged, 4 thread blocks', 'staged', 4),
  { key: 'copier', name: 'our copier without the engine', way: 'chosen', kernelBlocks: 1, isPeer: false },
]

/** Name of the sample of a plain copy of as many bytes. */
export const PLAIN = 'plain'

/** Name of a subject's sample in one direction. */
export function sampleName(key: string, direction: Direction, what: 'rate' | 'cpu'): string {
  return `${key} ${direction} ${what}`
}

/** GB/s of one transfer; both directions at once move twice the bytes. */
export function rateOf(cell: Cell, direction: Direction, seconds: number): number {
  return (bytesOf(cell) * (direction === 'both' ? 2 : 1)) / seconds / 1e9
}

/** The fastest of some subjects in one round. */
export function bestOf(sample: Sample, keys: readonly string[], direction: Direction): number {
  return Math.max(...keys.map((key) => sample[sampleName(key, direction, 'rate')] ?? Number.NaN))
}

/** What the engine should reach of the plain copy; null where nothing is aimed at. */
export function aimOf(cell: Cell, direction: Direction): Aim | null {
  if (direction === 'both' || bytesOf(cell) < LEAST_BYTES_OF_AIM) return null
  if (cell.fragmentBytes >= 2 * MiB) return { of: 'ratio', bound: 0.97 }
  if (cell.fragmentBytes >= 4 * KiB && cell.fragmentBytes <= 64 * KiB) return { of: 'ratio', bound: 0.9 }
  return null
}

/** `from the GPU`. */
export function directionName(direction: Direction): string {
  return { away: 'from the GPU', towards: 'to the GPU', both: 'both ways' }[direction]
}

/** Parameters that every row of a cell has. */
export function parametersOf(cell: Cell, gpu: Gpu): Parameters {
  return {
    gpu: gpu.name,
    driver: gpu.driver,
    simulated: gpu.simulated,
    fragmentBytes: cell.fragmentBytes,
    fragments: cell.fragments,
    blocks: cell.blocks,
    bytes: bytesOf(cell),
    deviceSlots: 'in a drawn order',
    layout: 'layersKvInner',
    checkedBytes: true,
  }
}

/** Without its limit and its aim on a simulated driver, whose times say nothing about a GPU. */
export function rowFor(gpu: Gpu, row: Row): Row {
  return gpu.simulated ? { ...row, limit: null, aim: null } : row
}

/** The rows of one subject in one direction: its rate, and what its transfer costs the processor. */
export function subjectRows(cell: Cell, gpu: Gpu, direction: Direction, subject: EngineSubject | PeerSubject): Row[] {
  const isEngine = 'strategy' in subject
  const name = `${subject.name}, ${directionName(direction)}, ${cellName(cell)}`
  const base = { ...parametersOf(cell, gpu), direction, subject: subject.key }
  const clocks = isEngine
    ? ['wall time until done', 'processor time of all threads']
    : ["the GPU's time", 'processor time to queue']
  return [
    rowFor(gpu, {
      name,
      unit: 'GB/s',
      subject: sampleName(subject.key, direction, 'rate'),
      limit: { name: 'one plain copy of as many bytes', sample: sampleName(PLAIN, direction, 'rate') },
      better: 'higher',
      aim: subject.key === 'engine' ? aimOf(cell, direction) : null,
      parameters: { ...base, clock: clocks[0] ?? '' },
    }),
    {
      name: `${name}, processor time`,
      unit: 'us',
      subject: sampleName(subject.key, direction, 'cpu'),
      limit: null,
      better: 'lower',
      aim: null,
      parameters: { ...base, clock: clocks[1] ?? '', of: 'one transfer' },
    },
  ]
}

/** Name of the sample that {@link bestRow} divides by. */
export function bestName(direction: Direction): string {
  return `best ${direction}`
}

/** The engine against the fastest of the peers' ways in each round. */
export function bestRow(cell: Cell, gpu: Gpu, direction: Direction): Row {
  return rowFor(gpu, {
    name: `engine, ${directionName(direction)}, ${cellName(cell)}, against the best`,
    unit: 'GB/s',
    subject: sampleName('engine', direction, 'rate'),
    limit: { name: 'the fastest other way of each round', sample: bestName(direction) },
    better: 'higher',
    aim: { of: 'ratio', bound: 0.97 },
    parameters: { ...parametersOf(cell, gpu), direction, subject: 'engine', clock: 'wall time until done' },
  })
}
