/**
 * Offload and onboard between device memory (of kind `host`, K and V of a layer beside each other) and host memory,
 * through the block manager, against memcpy of the same fragments. In wall time: this is about what a request waits for.
 */

import { MiB } from '../../lib/options.js'
import { BLOCK_SHAPES, type BlockShape, BlockStore, fragmentBytes, sizeName } from '../harness/store.js'
import type { BenchContext, Group, GroupSpec, Row, Sample } from '../harness/types.js'

/** Bytes of one run: more than any last-level cache that it may meet. */
const RUN_BYTES = 128 * MiB

/** Threads of memcpy to compare with: as many as the engine copies on, one, and one a core. */
function threadCounts({ copyThreads, cores }: BenchContext): number[] {
  return [...new Set([copyThreads, 1, cores])]
}

function rowsOf(shape: BlockShape, context: BenchContext): Row[] {
  const size = sizeName(shape.blockBytes)
  const rows: Row[] = []
  for (const way of ['offload', 'onboard'] as const) {
    const parameters = {
      blockBytes: shape.blockBytes,
      fragmentBytes: fragmentBytes(shape),
      blocks: RUN_BYTES / shape.blockBytes,
      layout: 'layersKvInner',
      copyThreads: context.copyThreads,
      checksum: way === 'offload',
      clock: 'wall time',
    }
    const name = way === 'offload' ? `offload to host, ${size}` : `onboard from host, ${size}`
    for (const threads of threadCounts(context)) {
      rows.push({
        name: threads === context.copyThreads ? name : `${name}, against ${threads}`,
        unit: 'GB/s',
        subject: way,
        limit: { name: `memcpy, ${threads} ${threads === 1 ? 'thread' : 'threads'}`, sample: `${way}Memcpy${threads}` },
        better: 'higher',
        aim: threads === context.copyThreads && shape.blockBytes >= MiB ? { of: 'ratio', bound: 0.75 } : null,
        parameters,
      })
    }
  }
  return rows
}

async function open(context: BenchContext, shape: BlockShape): Promise<Group> {
  const { limits, directory } = context
  const blocks = RUN_BYTES / shape.blockBytes
  const store = await BlockStore.open(shape, { blocks, hostBlocks: blocks * 2, diskBlocks: 0, directory })
  const copy = limits.openCopy(fragmentBytes(shape), shape.layers, blocks)
  const rate = (seconds: number): number => RUN_BYTES / seconds / 1e9
  const memcpy = (threads: number): Sample => ({
    [`offloadMemcpy${threads}`]: rate(limits.runCopy(copy, threads, false)[0]),
    [`onboardMemcpy${threads}`]: rate(limits.runCopy(copy, threads, true)[0]),
  })
  return {
    rows: rowsOf(shape, context),
    measures: [
      async () => {
        const prompts = await store.prompts(1)
        const offload = rate(await store.offload(prompts, 'host'))
        store.emptyDevice()
        const onboard = rate(await store.onboard(prompts, 'host'))
        return { offload, onboard }
      },
      ...threadCounts(context).map((threads) => () => memcpy(threads)),
    ],
    async close() {
      limits.close(copy)
      await store.close()
    },
  }
}

/** See the file's first lines. */
export const HOST_TRANSFERS: readonly GroupSpec[] = BLOCK_SHAPES.map((shape) => ({
  suite: 'transfer',
  name: `device and host, blocks of ${sizeName(shape.blockBytes)}`,
  rounds: 9,
  open: (context) => open(context, shape),
}))
