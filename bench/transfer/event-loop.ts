/** How late the event loop is while blocks move at full speed, against how late it is when nothing happens. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { MiB } from '../../lib/options.js'
import { BLOCK_SHAPES, BlockStore, sizeName } from '../harness/store.js'
import type { BenchContext, Group, GroupSpec, Skipped } from '../harness/types.js'

const RUN_BYTES = 128 * MiB
const SECONDS = 0.3

/** The 99th percentile of the delays of a timer of 1 ms, in ms, while `work` is done again and again. */
async function delayDuring(work: () => Promise<void>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const end = performance.now() + SECONDS * 1000
  while (performance.now() < end) await work()
  delay.disable()
  return delay.percentile(99) / 1e6
}

async function open({ directory }: BenchContext): Promise<Group | Skipped> {
  const shape = BLOCK_SHAPES.find((each) => each.blockBytes === MiB)
  if (shape === undefined) return { skipped: 'there are no blocks of 1 MiB' }
  const blocks = RUN_BYTES / shape.blockBytes
  const store = await BlockStore.open(shape, { blocks, hostBlocks: blocks * 2, diskBlocks: 0, directory })
  return {
    rows: [
      {
        name: 'delay of the event loop while blocks move, 99th percentile',
        unit: 'ms',
        subject: 'moving',
        limit: { name: 'the same when nothing happens', sample: 'idle' },
        better: 'lower',
        aim: { of: 'ratio', bound: 4 },
        parameters: { block: sizeName(shape.blockBytes), runBytes: RUN_BYTES, timerMs: 1, seconds: SECONDS },
      },
    ],
    measures: [
      async () => {
        const moving = await delayDuring(async () => {
          const prompts = await store.prompts(1)
          await store.offload(prompts, 'host')
          store.emptyDevice()
          await store.onboard(prompts, 'host')
          store.emptyDevice()
        })
        return { moving }
      },
      async () => ({ idle: await delayDuring(() => new Promise((resolve) => setTimeout(resolve, 20))) }),
    ],
    close: () => store.close(),
  }
}

/** See the file's first lines. */
export const EVENT_LOOP: readonly GroupSpec[] = [{ suite: 'transfer', name: 'event loop', rounds: 5, open }]
