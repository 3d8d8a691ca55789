/**
 * What copies cost the GPU's own work: transfers one after the other while matrix products run, through the engine and in
 * the ways of comparable systems, against the same products alone and against one plain copy alone.
 */
import { KiB, MiB } from '../../lib/options.js'
import { findGpu, GPU, type Gpu } from '../harness/gpu.js'
import type { Elapsed, LimitHandle, Limits } from '../harness/limits.js'
import type { BenchContext, Group, GroupSpec, Measure, Row, Sample, Skipped } from '../harness/types.js'
import { GpuBench } from './gpu.js'
import {
  type Cell,
  cellName,
  cellOf,
  type Direction,
  directionName,
  type EngineSubject,
  leftOut,
  MOST_BYTES,
  type PeerSubject,
  PLAIN,
  parametersOf,
  rateOf,
  rowFor,
  sampleName,
} from './gpu-grid.js'

/** The sizes of a layer's fragment and of a whole block; the first one for the simulated driver. */
const CELLS: readonly Cell[] = [
  cellOf(4 * KiB, 256),
  cellOf(16 * KiB, 4096),
  cellOf(64 * KiB, 4096),
  cellOf(2 * MiB, MOST_BYTES / (2 * MiB)),
]
const WAYS = ['away', 'towards'] as const satisfies readonly Direction[]
/** Products of one measurement take so long alone. */
const WORK_SECONDS = 0.05
const MOST_PRODUCTS = 1000
const MATRIX_ROWS = 2048
/** On the simulated driver, which multiplies on the processor. */
const SIMULATED_ROWS = 32

function matrixRows(gpu: Gpu): number {
  return gpu.simulated ? SIMULATED_ROWS : MATRIX_ROWS
}

/** Products that a measurement queues, all of which run while transfers do. */
class Work {
  readonly #limits: Limits
  readonly #handle: LimitHandle<'work'>
  readonly #products: number

  constructor(limits: Limits, handle: LimitHandle<'work'>) {
    this.#limits = limits
    this.#handle = handle
    this.#limits.startWork(handle, 1)
    limits.finishWork(handle)
    this.#limits.startWork(handle, 1)
    const seconds = limits.finishWork(handle)
    this.#products = Math.max(1, Math.min(MOST_PRODUCTS, Math.ceil(WORK_SECONDS / seconds)))
  }

  /** Their seconds with nothing beside them. */
  alone(): number {
    this.#limits.startWork(this.#handle, this.#products)
    return this.#limits.finishWork(this.#handle)
  }

  /**
   * Runs transfers until the products are done, once at least.
   *
   * @returns the products' seconds, the transfers' seconds, and how many there were
   */
  async beside(transfer: () => Promise<Elapsed> | Elapsed): Promise<[work: number, moving: number, count: number]> {
    let moving = 0
    let count = 0
    this.#limits.startWork(this.#handle, this.#products)
    do {
      moving += (await transfer())[0]
      count++
    } while (!this.#limits.isWorkDone(this.#handle))
    return [this.#limits.finishWork(this.#handle), moving, count]
  }

  /** @throws Error when the last product is wrong */
  check(): void {
    if (!this.#limits.isWorkRight(this.#handle)) throw new Error('A matrix product beside copies is wrong.')
  }

  close(): void {
    this.#limits.close(this.#handle)
  }
}

const ALONE = 'products alone'

function slowName(key: string, direction: Direction): string {
  return `${key} ${direction} products`
}

function rowsOf(cell: Cell, gpu: Gpu, direction: Direction, { key, name }: EngineSubject | PeerSubject): Row[] {
  const text = `${name}, ${directionName(direction)}, ${cellName(cell)}`
  const parameters = { ...parametersOf(cell, gpu), direction, subject: key, matrixRows: matrixRows(gpu) }
  return [
    rowFor(gpu, {
      name: `${text}, beside a matrix product`,
      unit: 'GB/s',
      subject: sampleName(key, direction, 'rate'),
      limit: { name: 'one plain copy, nothing beside it', sample: sampleName(PLAIN, direction, 'rate') },
      better: 'higher',
      aim: null,
      parameters,
    }),
    rowFor(gpu, {
      name: `matrix products beside ${text}`,
      unit: 'ms',
      subject: slowName(key, direction),
      limit: { name: 'the same products alone', sample: ALONE },
      better: 'lower',
      aim: null,
      parameters: { ...parameters, clock: "the GPU's time" },
    }),
  ]
}

async function directionGroup(
  bench: GpuBench,
  gpu: Gpu,
  work: Work,
  direction: Direction,
): Promise<Omit<Group, 'close'>> {
  const { cell } = bench
  const { engine, peers } = await bench.subjects(direction)
  const measure =
    (key: string, transfer: () => Promise<Elapsed> | Elapsed): Measure =>
    async (round) => {
      const [seconds, moving, count] = await work.beside(transfer)
      if (round < 0) work.check()
      return {
        [sampleName(key, direction, 'rate')]: count * rateOf(cell, direction, moving),
        [slowName(key, direction)]: seconds * 1000,
      }
    }
  const peerRun = (subject: PeerSubject): Elapsed => {
    const elapsed = bench.peer(subject, direction)
    if (elapsed === null) throw new Error(`${subject.name} went once and does not go any more.`)
    return elapsed
  }
  return {
    rows: [...engine, ...peers].flatMap((subject) => rowsOf(cell, gpu, direction, subject)),
    measures: [
      (): Sample => ({ [sampleName(PLAIN, direction, 'rate')]: rateOf(cell, direction, bench.plain(direction)[0]) }),
      ...engine.map((subject) => measure(subject.key, () => bench.engine(subject, direction))),
      ...peers.map((subject) => measure(subject.key, () => peerRun(subject))),
    ],
  }
}

async function openGroup(bench: GpuBench, gpu: Gpu, work: Work): Promise<Group> {
  const groups: Omit<Group, 'close'>[] = []
  for (const direction of WAYS) groups.push(await directionGroup(bench, gpu, work, direction))
  return {
    rows: groups.flatMap((group) => group.rows),
    measures: [() => ({ [ALONE]: work.alone() * 1000 }), ...groups.flatMap((group) => group.measures)],
    async close() {
      work.close()
      await bench.close()
    },
  }
}

async function open({ limits, quick }: BenchContext, cell: Cell): Promise<Group | Skipped> {
  const gpu = await findGpu()
  if (typeof gpu === 'string') return { skipped: gpu }
  const reason = leftOut(cell, quick, gpu.simulated)
  if (reason !== null) return { skipped: reason }
  const handle = limits.openWork(gpu.library, GPU, matrixRows(gpu))
  if (handle === null) return { skipped: 'this build, or this GPU, has no kernel for a matrix product' }
  const work = new Work(limits, handle)
  try {
    const bench = await GpuBench.open(cell, gpu, limits)
    try {
      return await openGroup(bench, gpu, work)
    } catch (error) {
      await bench.close()
      throw error
    }
  } catch (error) {
    work.close()
    throw error
  }
}

/** See the file's first lines. */
export const GPU_BESIDE_WORK: readonly GroupSpec[] = CELLS.map((cell) => ({
  suite: 'transfer',
  name: `GPU beside a matrix product, ${cellName(cell)}`,
  rounds: 5,
  open: (context) => open(context, cell),
}))
