/**
 * State images of an engine that only gives files, 30 layers of 4,096 tokens: reading and cutting one into blocks, and
 * building one from verified blocks, against a plain memcpy of the same bytes by one thread, in memory that was touched before.
 */

import { closeSync, openSync, writeSync } from 'node:fs'
import { startBatch } from '../../lib/movement/native-batch.js'
import type { BuiltImage, GroupShape, ImageHandle, ReadImage, StorageHandle } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { MiB } from '../../lib/options.js'
import { closeStorage, openBinding, openMemory } from '../harness/native.js'
import type { BenchContext, Group, GroupSpec } from '../harness/types.js'

const LAYERS = 30
const TOKENS = 4096
const ROW_BYTES = 384
const TOKENS_PER_BLOCK = 64
const BLOCKS = TOKENS / TOKENS_PER_BLOCK
const PAYLOAD_BYTES = LAYERS * 2 * TOKENS * ROW_BYTES
const SHAPE: GroupShape = {
  parts: 1,
  layers: LAYERS,
  outer: 2,
  tokensPerBlock: TOKENS_PER_BLOCK,
  bytesPerToken: ROW_BYTES,
}

/** Writes what llama.cpp would, through the image's path. */
function writeState(path: string): void {
  const file = openSync(path, 'w')
  const words = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer)
  const rows = new Uint8Array(TOKENS * ROW_BYTES)
  const put = (bytes: Uint8Array): number => writeSync(file, bytes)
  put(words(0x67677371, 3, TOKENS))
  put(new Uint8Array(Uint32Array.from({ length: TOKENS }, (_, i) => i).buffer))
  put(words(1, TOKENS))
  put(new Uint8Array(Uint32Array.from({ length: TOKENS * 3 }, (_, i) => [i / 3, 1, 0][i % 3] ?? 0).buffer))
  put(words(0, LAYERS))
  for (let layer = 0; layer < LAYERS * 2; layer++) {
    put(words(1, ROW_BYTES, 0))
    put(rows.fill(layer + 1))
  }
  closeSync(file)
}

async function open({ limits }: BenchContext): Promise<Group> {
  const native = openBinding()
  const storage: StorageHandle = await openMemory('contiguous', SHAPE, BLOCKS)
  const [written, target]: readonly ImageHandle[] = [native.openImage(), native.openImage()]
  if (written === undefined || target === undefined) throw new Error('No image was opened.')
  writeState(native.imagePath(written))
  const slots = Uint32Array.from({ length: BLOCKS }, (_, i) => i)
  const moves = Uint32Array.from({ length: BLOCKS * 2 }, (_, i) => i >> 1)
  const hashes = new Uint8Array(BLOCKS * 32).map((_, at) => (at * 37) & 0xff)
  const cut = async (): Promise<ReadImage> => {
    const image = await completions().call<ReadImage>((ticket) =>
      native.startReadImage(ticket, written, 'llama', ['attention'], TOKENS),
    )
    await completions().call((ticket) => native.startCutImage(ticket, written, 0, storage, moves))
    return image
  }
  const { shape, tokens } = await cut()
  const sealing = startBatch(completions(), BLOCKS, (ticket) => native.startSeal(ticket, storage, slots, hashes))
  await sealing.settled
  const build = async (): Promise<void> => {
    const sources = [{ storage, firstBlock: 0, slots, hashes }]
    const built = await completions().call<BuiltImage>((ticket) =>
      native.startBuildImage(ticket, target, shape, tokens, sources),
    )
    if (built.bytes < PAYLOAD_BYTES) throw new Error('A block of the image was bad.')
  }
  // One fragment a block, as the slots have.
  const copy = limits.openCopy(PAYLOAD_BYTES / BLOCKS, 1, BLOCKS)
  const rate = (seconds: number): number => PAYLOAD_BYTES / seconds / 1e9
  const cpuRate = async (work: () => Promise<unknown>): Promise<number> => {
    const [all, own] = [limits.processCpuSeconds(), limits.threadCpuSeconds()]
    await work()
    return rate(limits.processCpuSeconds() - all - (limits.threadCpuSeconds() - own))
  }
  const shut = (image: ImageHandle): Promise<undefined> =>
    completions().call<undefined>((ticket) => native.startCloseImage(ticket, image))

  const row = {
    unit: 'GB/s of CPU',
    better: 'higher',
    limit: { name: 'memcpy of the same bytes, 1 thread', sample: 'memcpy' },
    aim: null,
    parameters: {
      layers: LAYERS,
      tokens: TOKENS,
      rowBytes: ROW_BYTES,
      tokensPerBlock: TOKENS_PER_BLOCK,
      megabytes: Math.round(PAYLOAD_BYTES / MiB),
      clock: 'processor time',
    },
  } as const
  return {
    rows: [
      { ...row, name: 'state image, read and cut', subject: 'cut' },
      { ...row, name: 'state image, verified and built over one of its size', subject: 'build' },
      { ...row, name: 'state image, verified and built anew', subject: 'buildAnew' },
    ],
    measures: [
      async () => ({ cut: await cpuRate(cut) }),
      async () => ({ build: await cpuRate(build) }),
      async () => {
        // As when an engine was about to write it.
        closeSync(openSync(native.imagePath(target), 'w'))
        return { buildAnew: await cpuRate(build) }
      },
      () => ({ memcpy: rate(limits.runCopy(copy, 1, false)[1]) }),
    ],
    async close() {
      limits.close(copy)
      await closeStorage(storage)
      await Promise.all([shut(written), shut(target)])
    },
  }
}

/** See the file's first lines. */
export const IMAGES: readonly GroupSpec[] = [{ suite: 'micro', name: 'state images', rounds: 9, open }]
