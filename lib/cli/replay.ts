/**
 * `kvtier replay`: recorded traffic through the block accounting of one tier, or, with `--bytes`, through the host and disk
 * tiers of a real block manager with every returned byte checked.
 */

import { resolve } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'

import { KvError } from '../errors.js'
import { checkPolicyName, DEFAULT_EVICTION_POLICY, EVICTION_POLICIES } from '../policy/eviction/catalog.js'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { formatBytes, formatCount, formatDuration, formatPercent, plural, printable } from './format.js'
import { countOfShare, usageError } from './option-kinds.js'
import { type Progress, startProgress } from './progress.js'
import { replayTrace } from './replay/accounting.js'
import type { EngineKind } from './replay/engine-memory.js'
import { loadTrace, type Trace } from './replay/load-trace.js'
import { renderTable } from './table.js'

const OPTIONS = {
  capacity: {
    kind: 'share',
    placeholder: 'N|N%',
    help: 'size of the tier in blocks, or in percent of the different blocks of the trace',
  },
  policy: {
    kind: 'text',
    placeholder: 'NAME',
    help: `which block leaves first: ${EVICTION_POLICIES.join(', ')} (default: ${DEFAULT_EVICTION_POLICY})`,
  },
  bytes: { kind: 'size', placeholder: 'SIZE', help: 'move real blocks of this size, 64KiB for example' },
  host: { kind: 'share', placeholder: 'N|N%', help: 'with --bytes: size of the host tier (default: --capacity)' },
  disk: { kind: 'share', placeholder: 'N|N%', help: 'with --bytes: size of the disk tier (default: none)' },
  device: {
    kind: 'choice',
    placeholder: 'KIND',
    choices: ['host', 'cuda'],
    help: 'with --bytes: where blocks are computed (default: host)',
  },
} as const

type ReplayContext = VerbContext<typeof OPTIONS>

/** What one tier had to do with it. */
interface TierReport {
  readonly tier: 'host' | 'disk'
  readonly capacityBlocks: number
  /** References that this tier served. */
  readonly hits: number
  /** The same in percent of all references. */
  readonly hitRatePercent: number
}

/** What moved; zeros without `--bytes`. */
interface MovedReport {
  readonly offloaded: number
  readonly onboarded: number
  readonly verifiedBlocks: number
  readonly wrongBlocks: number
  /** Blocks whose transfer failed; each one was a miss. */
  readonly failedBlocks: number
}

/** How late the event loop was while requests were served, in milliseconds. */
interface LoopDelay {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** What a way of replaying found. */
interface Outcome {
  readonly tiers: readonly TierReport[]
  readonly bytes: MovedReport
  readonly delay: LoopDelay
}

const NOTHING_MOVED: MovedReport = { offloaded: 0, onboarded: 0, verifiedBlocks: 0, wrongBlocks: 0, failedBlocks: 0 }
const DELAY_RESOLUTION_MS = 1

function tierReport(trace: Trace, tier: 'host' | 'disk', capacityBlocks: number, hits: number): TierReport {
  return { tier, capacityBlocks, hits, hitRatePercent: trace.references === 0 ? 0 : (100 * hits) / trace.references }
}

/** Runs something while watching how late timers are. */
async function watchingLoop<T>(run: () => Promise<T>): Promise<{ readonly result: T; readonly delay: LoopDelay }> {
  const histogram = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS })
  histogram.enable()
  try {
    const result = await run()
    histogram.disable()
    // The histogram holds the time between two ticks; what is beyond the timer's own interval is delay.
    const beyond = (nanoseconds: number): number =>
      Number(Math.max(0, nanoseconds / 1e6 - DELAY_RESOLUTION_MS).toFixed(3))
    const delay = {
      p50: beyond(histogram.percentile(50)),
      p99: beyond(histogram.percentile(99)),
      max: beyond(histogram.max),
    }
    return { result, delay }
  } finally {
    histogram.disable()
  }
}

async function readTraceFile(context: ReplayContext, path: string): Promise<Trace> {
  let progress: Progress | undefined
  try {
    return await loadTrace(path, {
      onProgress: (readBytes, totalBytes) => {
        context.signal.throwIfAborted()
        progress ??= startProgress(context, 'reading bytes', totalBytes)
        progress.update(readBytes)
      },
    })
  } finally {
    progress?.end()
  }
}

async function account(context: ReplayContext, trace: Trace, policy: string, capacity: number): Promise<Outcome> {
  const progress = startProgress(context, 'replaying requests', trace.requests)
  try {
    const { result, delay } = await watchingLoop(() =>
      replayTrace(trace, {
        capacity: { blocks: capacity },
        policy,
        onProgress: (requests) => {
          context.signal.throwIfAborted()
          progress.update(requests)
        },
      }),
    )
    return { tiers: [tierReport(trace, 'host', capacity, result.hits)], bytes: NOTHING_MOVED, delay }
  } finally {
    progress.end()
  }
}

interface Sizes {
  readonly blockBytes: number
  readonly hostBlocks: number
  readonly diskBlocks: number
  readonly device: EngineKind
}

async function move(context: ReplayContext, trace: Trace, policy: string, sizes: Sizes): Promise<Outcome> {
  const { MovingReplay } = await import('./replay/moving.js')
  const replay = await MovingReplay.open({ ...sizes, policy, longestRequest: trace.longestRequest })
  const progress = startProgress(context, 'replaying requests', trace.requests)
  try {
    const { delay } = await watchingLoop(async () => {
      for (let request = 0; request < trace.requests; ++request) {
        context.signal.throwIfAborted()
        await replay.serve(trace.nodes.subarray(trace.starts[request], trace.starts[request + 1]))
        progress.update(request + 1)
      }
    })
    const { hits, ...moved } = replay.result()
    const tiers = [tierReport(trace, 'host', sizes.hostBlocks, hits.host)]
    if (sizes.diskBlocks > 0) tiers.push(tierReport(trace, 'disk', sizes.diskBlocks, hits.disk))
    return {
      tiers,
      bytes: {
        offloaded: moved.offloadedBytes,
        onboarded: moved.onboardedBytes,
        verifiedBlocks: moved.verifiedBlocks,
        wrongBlocks: moved.wrongBlocks,
        failedBlocks: moved.failedBlocks,
      },
      delay,
    }
  } finally {
    progress.end()
    await replay.close()
  }
}

/** Refuses combinations that cannot be meant, before a trace is read. */
function checkOptions({ values }: ReplayContext): void {
  const { capacity, bytes, host, disk, device } = values
  if (bytes === undefined) {
    for (const [name, value] of Object.entries({ host, disk, device })) {
      if (value !== undefined) usageError(`--${name} is about real blocks; say their size with --bytes SIZE.`)
    }
    if (capacity === undefined) usageError('replay needs --capacity N|N%, the size of the tier.')
  } else if (capacity === undefined && host === undefined) {
    usageError('replay --bytes needs --host N|N% or --capacity N|N%, the size of the host tier.')
  }
}

/** Refuses a GPU where none can be used, also before a trace is read. */
async function checkDevice({ values, native }: ReplayContext): Promise<void> {
  if (values.device !== 'cuda') return
  const { cuda } = await (await native()).probe('')
  if (cuda.available) return
  throw new KvError(
    'ERR_KV_UNSUPPORTED',
    `--device cuda was asked for, but no GPU can be used here: ${cuda.reason.replace(/\.?$/, '.')} Use --device host.`,
  )
}

function textOf(trace: Trace, policy: string, outcome: Outcome, blockBytes: number | undefined): string {
  const hits = outcome.tiers.reduce((sum, tier) => sum + tier.hits, 0)
  const rate = formatPercent(trace.references === 0 ? 0 : (100 * hits) / trace.references)
  const size = blockBytes === undefined ? '' : ` of ${formatBytes(blockBytes)}`
  const rows = outcome.tiers.map((tier) => [
    tier.tier,
    formatCount(tier.capacityBlocks),
    formatPercent((100 * tier.capacityBlocks) / Math.max(1, trace.uniqueBlocks)),
    formatCount(tier.hits),
    formatPercent(tier.hitRatePercent),
  ])
  const columns = [
    { title: 'TIER' },
    { title: 'BLOCKS', align: 'right' },
    { title: 'OF TRACE', align: 'right' },
    { title: 'HITS', align: 'right' },
    { title: 'HIT RATE', align: 'right' },
  ] as const
  const { bytes, delay } = outcome
  const moved =
    blockBytes === undefined
      ? ''
      : `\n${formatBytes(bytes.offloaded)} offloaded, ${formatBytes(bytes.onboarded)} onboarded\n` +
        `blocks verified: ${formatCount(bytes.verifiedBlocks)}\nwrong blocks: ${formatCount(bytes.wrongBlocks)}\n` +
        `failed blocks: ${formatCount(bytes.failedBlocks)}\n`
  return (
    `${printable(trace.name)}: ${plural(trace.requests, 'request')}, ${plural(trace.references, 'block')}${size}, ` +
    `${formatCount(trace.uniqueBlocks)} different\n\n${renderTable(columns, rows)}\n` +
    `hit rate with ${policy}: ${rate}\n${moved}` +
    `event loop late by: ${formatDuration(delay.p50)} (median), ${formatDuration(delay.p99)} (p99), ` +
    `${formatDuration(delay.max)} (most)\n`
  )
}

async function run(context: ReplayContext): Promise<VerbResult> {
  checkOptions(context)
  const { capacity, bytes, host, disk, device, policy = DEFAULT_EVICTION_POLICY } = context.values
  checkPolicyName(policy)
  await checkDevice(context)
  const trace = await readTraceFile(context, resolve(context.cwd, context.operands[0] ?? ''))
  const hostShare = (bytes === undefined ? undefined : host) ?? capacity ?? { count: 1 }
  const hostBlocks = countOfShare(hostShare, trace.uniqueBlocks)
  const diskBlocks = disk === undefined ? 0 : countOfShare(disk, trace.uniqueBlocks)
  const outcome = await (bytes === undefined
    ? account(context, trace, policy, hostBlocks)
    : move(context, trace, policy, {
        blockBytes: bytes,
        hostBlocks,
        diskBlocks,
        device: device === 'cuda' ? device : 'host',
      }))
  const hits = outcome.tiers.reduce((sum, tier) => sum + tier.hits, 0)
  return {
    json: {
      trace: trace.name,
      requests: trace.requests,
      references: trace.references,
      uniqueBlocks: trace.uniqueBlocks,
      capacityBlocks: hostBlocks + diskBlocks,
      policy,
      hits,
      hitRatePercent: trace.references === 0 ? 0 : (100 * hits) / trace.references,
      tiers: outcome.tiers,
      bytes: outcome.bytes,
      eventLoopDelayMs: outcome.delay,
    },
    text: textOf(trace, policy, outcome, bytes),
    exitCode: outcome.bytes.wrongBlocks === 0 ? 0 : 1,
  }
}

/** The verb. */
export const replay: Verb = defineVerb({
  name: 'replay',
  summary: 'serve recorded traffic from a cache and say how much of it hits',
  usage: 'FILE --capacity N|N%',
  details:
    'FILE is a trace: JSON lines, plain, gzip or zstd, one request a line with the ids of its blocks (hash_ids or hash_ranges). ' +
    'Without --bytes the block accounting of one tier is run alone, exactly as the block manager runs it: the same trace, ' +
    'policy and capacity give the same hits. With --bytes every block is filled, goes through the host and disk tiers of a ' +
    'real block manager, and is compared byte by byte when it comes back; the exit code is 1 when a block was wrong. ' +
    "With --device cuda blocks are computed in the first GPU's memory. The " +
    'disk tier lies in a temporary directory that is removed.',
  operands: { least: 1, most: 1 },
  options: OPTIONS,
  run,
})
