/** How long a block takes from disk while many are written, against the same when nothing else happens. */
import { join } from 'node:path'
import { fence } from '../../lib/movement/fence.js'
import { MiB } from '../../lib/options.js'
import { quantile } from '../harness/statistics.js'
import { BLOCK_SHAPES, BlockStore, sizeName } from '../harness/store.js'
import type { BenchContext, Group, GroupSpec, Sample, Skipped } from '../harness/types.js'

const READS = 32
const WRITTEN = 256

/** Onboards the blocks of a prompt one by one while `more` says so; ms of each. */
async function readOneByOne(store: BlockStore, more: () => boolean): Promise<number[]> {
  const prompts = await store.prompts(1, READS)
  await store.offload(prompts, 'disk')
  store.emptyDevice()
  await store.emptyHost()
  const [sequence] = prompts.sequences
  const times: number[] = []
  const pins: Disposable[] = []
  for (let blocks = 1; blocks <= READS && more(); blocks++) {
    const started = performance.now()
    // The blocks before it are on the device already: one block moves.
    const transfer = sequence?.onboard({ after: fence.quiet(), maxBlocks: blocks })
    const result = await transfer?.done
    times.push(performance.now() - started)
    if (result?.arrived !== blocks) throw new Error(`${result?.arrived} of ${blocks} blocks came: ${result?.message}`)
    if (result.pin !== null) pins.push(result.pin)
    await transfer?.settled
  }
  for (const pin of pins) pin[Symbol.dispose]()
  return times
}

async function open({ directory }: BenchContext): Promise<Group | Skipped> {
  const shape = BLOCK_SHAPES.find((each) => each.blockBytes === MiB)
  if (shape === undefined) return { skipped: 'there are no blocks of 1 MiB' }
  const all = READS + WRITTEN
  const store = await BlockStore.open(shape, {
    blocks: all,
    hostBlocks: all * 2,
    diskBlocks: all * 2,
    directory: join(directory, 'reads-under-writes'),
  })

  async function alone(): Promise<Sample> {
    const times = await readOneByOne(store, () => true)
    return { alone: quantile(times, 0.5), aloneLate: quantile(times, 0.9) }
  }

  async function underWrites(): Promise<Sample> {
    let isOver = false
    const write = async (): Promise<void> => {
      const prompts = await store.prompts(1, WRITTEN)
      await store.offload(prompts, 'disk')
    }
    let writing: Promise<void> | null = null
    const times = await readOneByOne(store, () => {
      writing ??= write().finally(() => {
        isOver = true
      })
      return !isOver
    })
    await writing
    store.emptyDevice()
    return { under: quantile(times, 0.5), underLate: quantile(times, 0.9) }
  }

  const parameters = { block: sizeName(shape.blockBytes), reads: READS, written: WRITTEN, clock: 'wall time' }
  const row = { unit: 'ms', better: 'lower', parameters } as const
  return {
    rows: [
      {
        ...row,
        name: 'one block from disk while others are written, 90th percentile',
        subject: 'underLate',
        limit: { name: 'the same when nothing else happens', sample: 'aloneLate' },
        aim: { of: 'ratio', bound: 5 },
      },
      {
        ...row,
        name: 'one block from disk while others are written, median',
        subject: 'under',
        limit: { name: 'the same when nothing else happens', sample: 'alone' },
        aim: null,
      },
    ],
    measures: [alone, underWrites],
    close: () => store.close(),
  }
}

/** See the file's first lines. */
export const READS_UNDER_WRITES: readonly GroupSpec[] = [{ suite: 'disk', name: 'reads under writes', rounds: 5, open }]
