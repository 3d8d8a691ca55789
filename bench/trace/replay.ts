/**
 * Replaying traces through the accounting that the block manager uses: how fast, and how many hits each eviction policy of
 * the catalog has of those that the optimum has.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { capacityOf, type ReplayCapacity, replayTrace } from '../../lib/cli/replay/accounting.js'
import { loadTrace, type Trace } from '../../lib/cli/replay/load-trace.js'
import { EVICTION_POLICIES } from '../../lib/policy/eviction/catalog.js'
import type { Group, GroupSpec, Row, Skipped } from '../harness/types.js'
import { CHAT, chatTrace } from './chat.js'
import { optimumHits } from './optimum.js'
import { plainLruHits } from './plain-lru.js'

const SPEED_CAPACITY = { percent: 10 } as const
/** At capacities from which on a policy must reach nearly everything that can be reached. */
const KNEE_SHARE = 0.94

/** A recorded trace, and the capacities at which it is told apart. */
interface Recorded {
  readonly file: string
  readonly name: string
  readonly cells: readonly { readonly percent: number; readonly isKnee: boolean }[]
}

const RECORDED: readonly Recorded[] = [
  {
    file: 'mooncake_conversation.jsonl.gz',
    name: 'conversation',
    cells: [
      { percent: 5, isKnee: false },
      { percent: 20, isKnee: true },
    ],
  },
  { file: 'mooncake_synthetic.jsonl.gz', name: 'synthetic', cells: [{ percent: 10, isKnee: false }] },
  { file: 'claude_code_global_v6_b512.jsonl.gz', name: 'coding', cells: [{ percent: 2, isKnee: true }] },
]

/** Hit rates of every policy in one cell, measured once: they are the same in every round. */
async function hitRates(
  trace: Trace,
  name: string,
  capacity: ReplayCapacity,
  aim: number | null,
): Promise<{ rows: Row[]; sample: Record<string, number> }> {
  const blocks = capacityOf(trace, capacity)
  const percent = (hits: number): number => (hits / trace.references) * 100
  const share = 'percent' in capacity ? `${capacity.percent} %` : `${blocks} blocks`
  const optimum = `optimum of ${name} at ${share}`
  const sample: Record<string, number> = { [optimum]: percent(optimumHits(trace, blocks)) }
  const rows: Row[] = []
  for (const policy of EVICTION_POLICIES) {
    const subject = `${policy} of ${name} at ${share}`
    sample[subject] = (await replayTrace(trace, { capacity, policy })).hitRatePercent
    rows.push({
      name: `hits of ${policy}, ${name}, ${share}`,
      unit: '%',
      subject,
      limit: { name: 'the optimum, known in hindsight', sample: optimum },
      better: 'higher',
      aim: aim !== null && policy === 'lru' ? { of: 'ratio', bound: aim } : null,
      parameters: { trace: trace.name, capacityBlocks: blocks, references: trace.references, deterministic: true },
    })
  }
  return { rows, sample }
}

async function openGenerated(): Promise<Group> {
  const trace = chatTrace(CHAT)
  const capacityBlocks = capacityOf(trace, SPEED_CAPACITY)
  const { rows, sample } = await hitRates(trace, 'generated', SPEED_CAPACITY, null)
  const plainHits = plainLruHits(trace, capacityBlocks)
  const rate = (started: number): number => trace.references / ((performance.now() - started) * 1000)
  return {
    rows: [
      {
        name: 'replay with the accounting',
        unit: 'M references/s',
        subject: 'replay',
        limit: { name: 'a plain LRU over a Map', sample: 'plain' },
        better: 'higher',
        aim: null,
        parameters: { references: trace.references, uniqueBlocks: trace.uniqueBlocks, capacityBlocks, policy: 'lru' },
      },
      ...rows,
    ],
    measures: [
      async () => {
        const started = performance.now()
        const { hits } = await replayTrace(trace, { capacity: SPEED_CAPACITY, policy: 'lru' })
        const replay = rate(started)
        if (hits !== plainHits) throw new Error(`The replay has ${hits} hits, a plain LRU ${plainHits}.`)
        return { replay }
      },
      () => {
        const started = performance.now()
        plainLruHits(trace, capacityBlocks)
        return { plain: rate(started) }
      },
      () => sample,
    ],
    close: () => undefined,
  }
}

/** Beside the checkout, where recorded traces are shared; they are no part of it. */
function traceFolder(): string {
  return process.env.KVTIER_TRACES ?? fileURLToPath(new URL('../../../../../shared/traces', import.meta.url))
}

async function openRecorded({ file, name, cells }: Recorded): Promise<Group | Skipped> {
  const path = join(traceFolder(), file)
  if (!existsSync(path)) return { skipped: `${path} is not there` }
  const trace = await loadTrace(path)
  const rows: Row[] = []
  const sample: Record<string, number> = {}
  for (const { percent, isKnee } of cells) {
    const cell = await hitRates(trace, name, { percent }, isKnee ? KNEE_SHARE : null)
    rows.push(...cell.rows)
    Object.assign(sample, cell.sample)
  }
  return { rows, measures: [() => sample], close: () => undefined }
}

/** See the file's first lines. */
export const REPLAY: readonly GroupSpec[] = [
  { suite: 'trace', name: 'generated chats', rounds: 7, open: openGenerated },
  ...RECORDED.map(
    (recorded): GroupSpec => ({
      suite: 'trace',
      name: `recorded: ${recorded.name}`,
      rounds: 5,
      open: () => openRecorded(recorded),
    }),
  ),
]
