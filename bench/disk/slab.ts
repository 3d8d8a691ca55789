/**
 * Offload to disk and onboard from disk through the block manager, checksums made and verified, against a raw loop of
 * O_DIRECT operations of the same size, on as many threads, between like memory and a preallocated file beside the slab.
 * One prompt at a time, and four at once as a server would have them.
 */
import { statfsSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../lib/options.js'
import { BLOCK_SHAPES, type BlockShape, BlockStore, sizeName } from '../harness/store.js'
import type { BenchContext, Group, GroupSpec, Row, Sample, Skipped } from '../harness/types.js'

const RUN_BYTES = 256 * MiB
/** The engine merges neighbouring slots into operations of this size; a larger block is one operation. */
const OP_BYTES = 2 * MiB
const AT_ONCE = 4

function rowsOf(shape: BlockShape, threads: number, direct: boolean): Row[] {
  const size = sizeName(shape.blockBytes)
  const parameters = {
    blockBytes: shape.blockBytes,
    opBytes: Math.max(OP_BYTES, shape.blockBytes),
    runBytes: RUN_BYTES,
    threads,
    direct,
    clock: 'wall time',
  }
  const rows: Row[] = []
  for (const [way, limit] of [
    ['offload', 'rawWrite'],
    ['onboard', 'rawRead'],
  ] as const) {
    const name = way === 'offload' ? `offload to disk, ${size}` : `onboard from disk, ${size}`
    const row = {
      unit: 'GB/s',
      limit: { name: `raw O_DIRECT ${way === 'offload' ? 'writes' : 'reads'}, ${threads} threads`, sample: limit },
      better: 'higher',
      aim: { of: 'ratio', bound: 0.7 },
    } as const
    rows.push(
      {
        ...row,
        name: `${name}, ${AT_ONCE} prompts`,
        subject: `${way}${AT_ONCE}`,
        parameters: { ...parameters, prompts: AT_ONCE },
      },
      { ...row, name: `${name}, 1 prompt`, subject: `${way}1`, parameters: { ...parameters, prompts: 1 } },
    )
  }
  rows.push({
    name: `offload to disk, ${size}, processor time`,
    unit: 'ms/GiB',
    subject: 'offloadCpu',
    limit: { name: 'memcpy, 1 thread', sample: 'memcpyCpu' },
    better: 'lower',
    aim: { of: 'ratio', bound: 2 },
    parameters: { ...parameters, clock: 'processor time of all threads' },
  })
  return rows
}

async function open(context: BenchContext, shape: BlockShape): Promise<Group | Skipped> {
  const { limits, engineThreads, directory } = context
  const { bavail, bsize } = statfsSync(directory)
  if (bavail * bsize < 4 * RUN_BYTES) return { skipped: `${directory} has less than ${(4 * RUN_BYTES) / MiB} MiB free` }
  const blocks = RUN_BYTES / shape.blockBytes
  const store = await BlockStore.open(shape, {
    blocks,
    hostBlocks: blocks,
    // Prompts at once evict a block too many now and then where the disk is exactly full; that is not measured here.
    diskBlocks: 2 * blocks,
    directory: join(directory, `slab-${shape.blockBytes}`),
  })
  const raw = limits.openDisk(join(directory, `raw-${shape.blockBytes}`), RUN_BYTES)
  const copy = limits.openCopy(shape.blockBytes / shape.layers, shape.layers, blocks)
  const rate = (seconds: number): number => RUN_BYTES / seconds / 1e9
  const perGiB = (seconds: number): number => (seconds * 1000 * 1024 * MiB) / RUN_BYTES
  const opBytes = Math.max(OP_BYTES, shape.blockBytes)

  async function through(count: number): Promise<Sample> {
    const prompts = await store.prompts(count)
    const cpu = limits.processCpuSeconds()
    const offload = rate(await store.offload(prompts, 'disk'))
    const offloadCpu = perGiB(limits.processCpuSeconds() - cpu)
    store.emptyDevice()
    await store.emptyHost()
    const onboard = rate(await store.onboard(prompts, 'disk'))
    store.emptyDevice()
    return { [`offload${count}`]: offload, [`onboard${count}`]: onboard, ...(count === 1 ? { offloadCpu } : {}) }
  }

  return {
    rows: rowsOf(shape, engineThreads, limits.isDirect(raw)),
    measures: [
      () => through(AT_ONCE),
      () => ({
        rawWrite: rate(limits.runDisk(raw, opBytes, engineThreads, true)[0]),
        rawRead: rate(limits.runDisk(raw, opBytes, engineThreads, false)[0]),
      }),
      () => through(1),
      () => ({ memcpyCpu: perGiB(limits.runCopy(copy, 1, false)[1]) }),
    ],
    async close() {
      limits.close(raw)
      limits.close(copy)
      await store.close()
    },
  }
}

/** See the file's first lines. */
export const SLAB: readonly GroupSpec[] = BLOCK_SHAPES.filter((shape) => shape.blockBytes >= MiB).map((shape) => ({
  suite: 'disk',
  name: `blocks of ${sizeName(shape.blockBytes)}`,
  rounds: 7,
  open: (context) => open(context, shape),
}))
