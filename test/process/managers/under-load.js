/**
 * A manager under load, as an application's process has it: plain JavaScript on dist/, so that worker threads and child
 * processes run it as it is.
 */
import { PatternEngine } from '../../../dist/cli/pattern-engine.js'
import { BlockManager, defineLayout, fence } from '../../../dist/index.js'

export const TOKENS_PER_BLOCK = 4
const BLOCKS = 4
const BLOCK_BYTES = 64 * 1024

const layout = defineLayout({
  tokensPerBlock: TOKENS_PER_BLOCK,
  dtype: 'test',
  groups: [{ name: 'full', kind: 'full', layers: 4, bytesPerToken: BLOCK_BYTES / 4 / 2 / TOKENS_PER_BLOCK }],
})

/** Opens a small manager: 128 device, 24 host and 96 disk blocks. */
export function openManager(directory, changes = {}) {
  return BlockManager.open({
    layout,
    model: 'process-test',
    device: { kind: 'host', slots: 128 },
    host: { capacityBytes: 24 * BLOCK_BYTES },
    ...(directory === '' ? {} : { disk: { directory, capacityBytes: 96 * (BLOCK_BYTES + 128) } }),
    leaveLastBlock: false,
    ...changes,
  })
}

/** The sequence of a number: its bytes come from the number alone. */
export function sequenceOf(manager, number) {
  const tokens = Uint32Array.from({ length: BLOCKS * TOKENS_PER_BLOCK }, (_, i) => number * 64 + i)
  return manager.sequence(tokens, { tenant: 'process' })
}

/** Serves a request and checks every byte that came from a tier; wrong blocks. */
export async function serve(manager, number, until = 'disk') {
  const { wrongBlocks } = await new PatternEngine(manager).serve(sequenceOf(manager, number), { until })
  return wrongBlocks
}

/** Stores a few sequences, then starts `count` loads and stores and waits for none of them. */
export async function startMany(manager, count) {
  const engine = new PatternEngine(manager)
  for (let number = 1; number <= 8; number++) await engine.serve(sequenceOf(manager, number), { until: 'disk' })
  const transfers = []
  for (let i = 0; i < count; i++) {
    const after = fence.quiet()
    if (i % 3 === 0) {
      const from = manager.device.reserve(BLOCKS)
      transfers.push(sequenceOf(manager, 100 + i).offload({ from, after, until: i % 2 === 0 ? 'disk' : 'host' }))
      // They are given back when the transfer has settled.
      from.release()
    } else transfers.push(sequenceOf(manager, 1 + (i % 8)).onboard({ after }))
    if (i % 7 === 3) transfers.at(-1).cancel()
  }
  return transfers
}

/** Wrong blocks among those that an earlier manager left in a directory. */
export async function countWrong(directory) {
  const manager = await openManager(directory)
  let wrong = 0
  for (let number = 1; number <= 8; number++) wrong += await serve(manager, number)
  await manager.close()
  return wrong
}
