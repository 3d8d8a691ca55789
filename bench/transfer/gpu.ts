/**
 * Copies between a GPU and pinned host memory: through kvtier's engine, calibrated and with each strategy alone, and in the
 * ways in which comparable systems queue them, each as a share of one plain copy of as many bytes. Every subject's bytes
 * are checked before its rounds.
 */
import type { CopyFigures } from '../../lib/native/binding.js'
import { calibration, findGpu, GPU, type Gpu, GpuBlocks, setChoices } from '../harness/gpu.js'
import type { Elapsed, LimitHandle, Limits } from '../harness/limits.js'
import type { BenchContext, Group, GroupSpec, Measure, Row, Sample, Skipped } from '../harness/types.js'
import {
  bestName,
  bestOf,
  bestRow,
  type Cell,
  cellName,
  DIRECTIONS,
  type Direction,
  directionName,
  ENGINE_SUBJECTS,
  type EngineSubject,
  GRID,
  leftOut,
  PEER_SUBJECTS,
  type PeerSubject,
  PLAIN,
  rateOf,
  sampleName,
  subjectRows,
} from './gpu-grid.js'

const PLAIN_SUBJECT: PeerSubject = { key: PLAIN, name: 'plain copy', way: 'plain', kernelBlocks: 1, isPeer: false }

/** The blocks of a cell twice, for both directions at once, in the engine's storages and in the limit's memory. */
export class GpuBench {
  readonly cell: Cell
  readonly #limits: Limits
  readonly #calibrated: CopyFigures
  readonly #away: GpuBlocks
  readonly #towards: GpuBlocks
  readonly #limitAway: LimitHandle<'device'>
  readonly #limitTowards: LimitHandle<'device'>

  private constructor(
    cell: Cell,
    limits: Limits,
    calibrated: CopyFigures,
    blocks: readonly [GpuBlocks, GpuBlocks],
    plain: readonly [LimitHandle<'device'>, LimitHandle<'device'>],
  ) {
    this.cell = cell
    this.#limits = limits
    this.#calibrated = calibrated
    this.#away = blocks[0]
    this.#towards = blocks[1]
    this.#limitAway = plain[0]
    this.#limitTowards = plain[1]
  }

  /** Takes all memory. */
  static async open(cell: Cell, gpu: Gpu, limits: Limits): Promise<GpuBench> {
    const { fragmentBytes, runs, blocks } = cell
    const calibrated = await calibration()
    const opened: GpuBlocks[] = []
    const plain: LimitHandle<'device'>[] = []
    const openBlocks = async (): Promise<GpuBlocks> => {
      const each = await GpuBlocks.open(fragmentBytes, runs, blocks)
      opened.push(each)
      return each
    }
    const openLimit = (): LimitHandle<'device'> => {
      const each = limits.openDevice(gpu.library, GPU, fragmentBytes, runs, blocks, true)
      plain.push(each)
      return each
    }
    try {
      const both = [await openBlocks(), await openBlocks()] as const
      return new GpuBench(cell, limits, calibrated, both, [openLimit(), openLimit()])
    } catch (error) {
      for (const each of plain) limits.close(each)
      for (const each of opened) await each.close()
      throw error
    }
  }

  /** One transfer (or one each way) through the engine; wall seconds, and the processor's of all threads. */
  async engine(subject: EngineSubject, direction: Direction): Promise<Elapsed> {
    setChoices(this.#calibrated, subject.strategy)
    const path = subject.checked ? 'memoryToMemoryChecked' : 'memoryToMemory'
    const cpu = this.#limits.processCpuSeconds()
    const started = performance.now()
    await Promise.all([
      direction === 'towards' ? null : this.#away.move(false, path),
      direction === 'away' ? null : this.#towards.move(true, path),
    ])
    return [(performance.now() - started) / 1000, this.#limits.processCpuSeconds() - cpu]
  }

  /**
   * The same with fresh bytes, each of which is looked at.
   *
   * @throws Error when one is wrong
   */
  async checkEngine(subject: EngineSubject, direction: Direction): Promise<void> {
    if (direction !== 'towards') await this.#away.fill(false)
    if (direction !== 'away') await this.#towards.fill(true)
    await this.engine(subject, direction)
    if (direction !== 'towards') await this.#away.check(false)
    if (direction !== 'away') await this.#towards.check(true)
  }

  /** One run of a peer's way; null where it cannot be gone here. */
  peer({ way, kernelBlocks }: PeerSubject, direction: Direction): Elapsed | null {
    if (direction === 'both') return this.#limits.runDevices(this.#limitAway, this.#limitTowards, way, kernelBlocks)
    return direction === 'away'
      ? this.#limits.runDevice(this.#limitAway, way, false, kernelBlocks)
      : this.#limits.runDevice(this.#limitTowards, way, true, kernelBlocks)
  }

  /**
   * Checks every byte of such a run; false where that way cannot be gone here.
   *
   * @throws Error when one is wrong
   */
  checkPeer({ way, kernelBlocks, name }: PeerSubject, direction: Direction): boolean {
    const right =
      direction === 'both'
        ? this.#limits.areDevicesRight(this.#limitAway, this.#limitTowards, way, kernelBlocks)
        : direction === 'away'
          ? this.#limits.isDeviceRight(this.#limitAway, way, false, kernelBlocks)
          : this.#limits.isDeviceRight(this.#limitTowards, way, true, kernelBlocks)
    if (right === false) throw new Error(`Wrong bytes: ${name}, ${directionName(direction)}, ${cellName(this.cell)}.`)
    return right === true
  }

  /** The subjects that can be measured in one direction, all of whose bytes were right. */
  async subjects(direction: Direction): Promise<{ engine: EngineSubject[]; peers: PeerSubject[] }> {
    this.checkPeer(PLAIN_SUBJECT, direction)
    const peers = PEER_SUBJECTS.filter((subject) => this.checkPeer(subject, direction))
    const ways = peers.map((subject) => subject.way)
    const engine = ENGINE_SUBJECTS.filter(
      // A checksum is made of what leaves the GPU; what comes to it has one.
      ({ needs, checked }) => (needs === null || ways.includes(needs)) && !(checked && direction !== 'away'),
    )
    for (const subject of engine) await this.checkEngine(subject, direction)
    return { engine, peers }
  }

  /** The plain copy of as many bytes. */
  plain(direction: Direction): Elapsed {
    const elapsed = this.peer(PLAIN_SUBJECT, direction)
    if (elapsed === null) throw new Error('There is no plain copy.')
    return elapsed
  }

  async close(): Promise<void> {
    setChoices(this.#calibrated, null)
    this.#limits.close(this.#limitAway)
    this.#limits.close(this.#limitTowards)
    await this.#away.close()
    await this.#towards.close()
  }
}

async function directionGroup(bench: GpuBench, gpu: Gpu, direction: Direction): Promise<Omit<Group, 'close'>> {
  const { cell } = bench
  const { engine, peers } = await bench.subjects(direction)
  const sampleOf = (key: string, [seconds, cpuSeconds]: Elapsed): Sample => ({
    [sampleName(key, direction, 'rate')]: rateOf(cell, direction, seconds),
    [sampleName(key, direction, 'cpu')]: cpuSeconds * 1e6,
  })
  const measures: Measure[] = [
    () => sampleOf(PLAIN, bench.plain(direction)),
    ...engine.map((subject) => async () => sampleOf(subject.key, await bench.engine(subject, direction))),
    ...peers.map((subject) => () => {
      const elapsed = bench.peer(subject, direction)
      if (elapsed === null) throw new Error(`${subject.name} went once and does not go any more.`)
      return sampleOf(subject.key, elapsed)
    }),
  ]
  const rows: Row[] = [...engine, ...peers].flatMap((subject) => subjectRows(cell, gpu, direction, subject))
  rows.push(bestRow(cell, gpu, direction))
  const rivals = peers.filter((subject) => subject.isPeer).map((subject) => subject.key)
  return { rows, measures, derive: (sample) => ({ [bestName(direction)]: bestOf(sample, rivals, direction) }) }
}

async function open({ limits, quick }: BenchContext, cell: Cell): Promise<Group | Skipped> {
  const gpu = await findGpu()
  if (typeof gpu === 'string') return { skipped: gpu }
  const reason = leftOut(cell, quick, gpu.simulated)
  if (reason !== null) return { skipped: reason }
  const bench = await GpuBench.open(cell, gpu, limits)
  try {
    const groups: Omit<Group, 'close'>[] = []
    for (const direction of DIRECTIONS) groups.push(await directionGroup(bench, gpu, direction))
    return {
      rows: groups.flatMap((group) => group.rows),
      measures: groups.flatMap((group) => group.measures),
      derive: (sample) => Object.assign({}, ...groups.map((group) => group.derive?.(sample))),
      close: () => bench.close(),
    }
  } catch (error) {
    await bench.close()
    throw error
  }
}

/** See the file's first lines. */
export const GPU_TRANSFERS: readonly GroupSpec[] = GRID.map((cell) => ({
  suite: 'transfer',
  name: `GPU, ${cellName(cell)}`,
  rounds: 7,
  open: (context) => open(context, cell),
}))
