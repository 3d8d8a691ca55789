/**
 * Copy with checksum in one pass, through the engine, against memcpy of the same fragments. In processor time, which other
 * work on the machine does not change: bytes for every second that the copying threads ran.
 */

import type { GroupShape, LayoutKindName } from '../../lib/native/binding.js'
import { KiB, MiB } from '../../lib/options.js'
import { closeStorage, openMemory, SlotBatch } from '../harness/native.js'
import type { BenchContext, Group, GroupSpec } from '../harness/types.js'

/** Larger than any last-level cache that it may meet. */
const WORKING_SET_BYTES = 128 * MiB
const FRAGMENTS = 64

interface Geometry {
  readonly fragmentBytes: number
  readonly kind: LayoutKindName
  readonly shape: GroupShape
}

/** K and V in regions of their own, or K and V of a layer beside each other: 64 fragments a block in both. */
const GEOMETRIES: readonly Geometry[] = [
  {
    fragmentBytes: 32 * KiB,
    kind: 'layersKvOuter',
    shape: { parts: 1, layers: FRAGMENTS / 2, outer: 2, tokensPerBlock: 16, bytesPerToken: 2 * KiB },
  },
  {
    fragmentBytes: 64 * KiB,
    kind: 'layersKvInner',
    shape: { parts: 1, layers: FRAGMENTS, outer: 2, tokensPerBlock: 16, bytesPerToken: 2 * KiB },
  },
]

async function open(context: BenchContext, geometry: Geometry): Promise<Group> {
  const { limits, copyThreads } = context
  const blocks = WORKING_SET_BYTES / (geometry.fragmentBytes * FRAGMENTS)
  const source = await openMemory(geometry.kind, geometry.shape, blocks)
  const target = await openMemory('contiguous', geometry.shape, blocks)
  const batch = new SlotBatch('memoryToMemoryChecked', source, target, blocks)
  const copy = limits.openCopy(geometry.fragmentBytes, FRAGMENTS, blocks)
  const rate = (cpuSeconds: number): number => WORKING_SET_BYTES / cpuSeconds / 1e9
  const fragments = `${FRAGMENTS} x ${geometry.fragmentBytes / KiB} KiB`
  const row = {
    unit: 'GB/s of CPU',
    better: 'higher',
    parameters: {
      fragments,
      blocks,
      layout: geometry.kind,
      threads: copyThreads,
      clock: 'processor time',
      cold: true,
    },
  } as const
  return {
    rows: [
      {
        ...row,
        name: `copy with checksum, ${fragments}`,
        subject: 'engine',
        limit: { name: 'memcpy of the same fragments', sample: 'memcpy' },
        aim: { of: 'ratio', bound: 0.9 },
      },
      {
        ...row,
        name: `the kernel of it alone, ${fragments}`,
        subject: 'kernel',
        limit: { name: 'memcpy of the same fragments, 1 thread', sample: 'memcpyOne' },
        aim: null,
        parameters: { ...row.parameters, threads: 1 },
      },
    ],
    measures: [
      async () => {
        const [all, own] = [limits.processCpuSeconds(), limits.threadCpuSeconds()]
        await batch.run()
        return { engine: rate(limits.processCpuSeconds() - all - (limits.threadCpuSeconds() - own)) }
      },
      () => ({ memcpy: rate(limits.runCopy(copy, copyThreads, false)[1]) }),
      () => ({ kernel: rate(limits.runCheckedKernel(copy)[1]) }),
      () => ({ memcpyOne: rate(limits.runCopy(copy, 1, false)[1]) }),
    ],
    async close() {
      limits.close(copy)
      await closeStorage(source)
      await closeStorage(target)
    },
  }
}

/** See the file's first lines. */
export const COPY: readonly GroupSpec[] = GEOMETRIES.map((geometry) => ({
  suite: 'micro',
  name: `copy, fragments of ${geometry.fragmentBytes / KiB} KiB`,
  rounds: 9,
  open: (context) => open(context, geometry),
}))
