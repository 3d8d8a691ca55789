/**
 * The process that the crash test kills: checks what earlier processes left, then writes until it dies. Every fact goes
 * to file descriptor 3 as one line, written synchronously, so that nothing it said is lost with it.
 */
import { writeSync } from 'node:fs'
import { PatternEngine } from '../../../dist/cli/pattern-engine.js'
import { BlockManager, defineLayout, fence } from '../../../dist/index.js'

/** @type {{ directory: string, direct: boolean, next: number, check: number[] }} */
const task = JSON.parse(process.argv[2] ?? '{}')
const say = (/** @type {object} */ fact) => writeSync(3, `${JSON.stringify(fact)}\n`)

export const BLOCKS_PER_SEQUENCE = 4
const TOKENS_PER_BLOCK = 4
const BLOCK_BYTES = 128 * 1024
const DISK_BLOCKS = 96

const layout = defineLayout({
  tokensPerBlock: TOKENS_PER_BLOCK,
  dtype: 'test',
  groups: [{ name: 'full', kind: 'full', layers: 4, bytesPerToken: BLOCK_BYTES / 4 / 2 / TOKENS_PER_BLOCK }],
})

const manager = await BlockManager.open({
  layout,
  model: 'crash-test',
  device: { kind: 'host', slots: 32 },
  host: { capacityBytes: 24 * BLOCK_BYTES },
  disk: { directory: task.directory, capacityBytes: DISK_BLOCKS * (BLOCK_BYTES + 128), direct: task.direct },
  leaveLastBlock: false,
})
const engine = new PatternEngine(manager)

/** The sequence of a number: its tokens, and so its blocks' bytes, come from the number alone. */
function sequenceOf(/** @type {number} */ number) {
  const tokens = new Uint32Array(BLOCKS_PER_SEQUENCE * TOKENS_PER_BLOCK)
  for (let i = 0; i < tokens.length; i++) tokens[i] = number * 64 + i
  return manager.sequence(tokens, { tenant: 'crash' })
}

async function check(/** @type {number} */ number) {
  const sequence = sequenceOf(number)
  const load = sequence.onboard({ after: fence.quiet() })
  const { pin } = await load.done
  await load.settled
  const held = pin?.blockCount ?? 0
  const { wrong } = await engine.check(pin?.slots() ?? new Uint32Array(), sequence.hashes.bytes.slice(0, held * 32))
  pin?.release()
  say({ type: 'checked', number, held, wrong })
}

async function write(/** @type {number} */ number) {
  const sequence = sequenceOf(number)
  await sequence.prepare()
  const fresh = manager.device.reserve(BLOCKS_PER_SEQUENCE)
  await engine.compute(fresh.slots(), sequence.hashes.bytes.slice())
  const store = sequence.offload({ from: fresh, after: fence.quiet(), until: 'disk' })
  const result = await store.done
  let onDisk = 0
  while (onDisk < result.blockCount && result.tier(onDisk) === 'disk') onDisk++
  if (onDisk === BLOCKS_PER_SEQUENCE) say({ type: 'stored', number })
  else say({ type: 'refused', number, code: result.code(onDisk), message: result.message })
  await store.settled
  fresh.release()
}

say({ type: 'open', recovered: manager.stats().counters.recovered })
for (const number of task.check) await check(number)
say({ type: 'writing' })
let next = task.next
await Promise.all(
  [0, 1].map(async () => {
    for (;;) await write(next++)
  }),
)
