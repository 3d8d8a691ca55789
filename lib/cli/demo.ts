/**
 * `kvtier demo`: a workload of growing chats through all tiers, in a child process that is killed with SIGKILL half-way
 * and started again; every byte that comes back is checked.
 */
import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KvError } from '../errors.js'
import { defineVerb, type Verb, type VerbContext } from './context.js'
import type { WorkerMessage, WorkerTask } from './demo/messages.js'
import type { PathRate } from './demo/paths.js'
import { DEMO_WORKLOAD, type DemoDevice } from './demo/settings.js'
import { formatBytes, formatCount, formatDuration, formatPercent, formatRate } from './format.js'
import { type Progress, startProgress } from './progress.js'
import { renderTable } from './table.js'

const OPTIONS = {
  device: {
    kind: 'choice',
    placeholder: 'KIND',
    choices: ['host', 'cuda'],
    help: 'what device memory is: plain memory, or the first GPU (default: host)',
  },
} as const

type DemoContext = VerbContext<typeof OPTIONS>

/** The demo's result; what `--json` prints. */
export interface DemoResult {
  readonly requests: number
  readonly tokens: {
    readonly asked: number
    readonly recomputed: number
    readonly byTier: { readonly device: number; readonly host: number; readonly disk: number }
  }
  readonly verifiedBlocks: number
  readonly wrongBlocks: number
  /** Requests served when the process was killed. */
  readonly killedAfterRequests: number
  /** Blocks found on disk by the process that came after it. */
  readonly recoveredBlocks: number
  /** From the start of opening the tiers to the first request, in the process after the kill. */
  readonly restartMs: number
  readonly checksumFailures: number
  readonly paths: readonly PathRate[]
  /** Whether device memory was the simulated driver's: bytes were checked, and rates say nothing about a GPU. */
  readonly simulated: boolean
}

/** What both processes' requests add up to. */
class Tally {
  requests = 0
  asked = 0
  device = 0
  host = 0
  disk = 0
  verified = 0
  wrong = 0

  add({ tally }: Extract<WorkerMessage, { type: 'served' }>): void {
    this.requests++
    this.asked += tally.tokensAsked
    this.device += tally.tokensFromDevice
    this.host += tally.tokensFromHost
    this.disk += tally.tokensFromDisk
    this.verified += tally.verifiedBlocks
    this.wrong += tally.wrongBlocks
  }
}

interface ChildEnd {
  readonly open: Extract<WorkerMessage, { type: 'open' }> | null
  readonly end: Extract<WorkerMessage, { type: 'end' }> | null
  /** The lowest request that was not served: where the next process begins. */
  readonly nextRequest: number
}

/** Runs a child to its end, or kills it once `killAt` requests were served. */
async function runChild(
  context: VerbContext,
  task: WorkerTask,
  killAt: number,
  tally: Tally,
  progress: Progress,
): Promise<ChildEnd> {
  const script = new URL('./demo/worker.js', import.meta.url)
  const child = fork(script, [JSON.stringify(task)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const stop = (): void => void child.kill('SIGKILL')
  context.signal.addEventListener('abort', stop, { once: true })
  const served = new Set<number>()
  let open: ChildEnd['open'] = null
  let end: ChildEnd['end'] = null
  const failures: Extract<WorkerMessage, { type: 'failed' }>[] = []
  child.on('message', (message: WorkerMessage) => {
    if (message.type === 'open') open = message
    else if (message.type === 'end') end = message
    else if (message.type === 'failed') failures.push(message)
    else if (!child.killed) {
      served.add(message.request)
      tally.add(message)
      progress.update(tally.requests)
      if (tally.requests >= killAt) stop()
    }
  })
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, exitSignal) => resolve([exitCode, exitSignal]))
  })
  context.signal.removeEventListener('abort', stop)
  if (context.signal.aborted) throw new KvError('ERR_KV_ABORTED', 'The demo was interrupted.')
  const [failure] = failures
  if (failure !== undefined) throw new KvError(failure.code, `The demo's process failed: ${failure.message}`)
  if (end === null && signal !== 'SIGKILL') {
    throw new KvError('ERR_KV_INTERNAL', `The demo's process ended early (exit code ${code}, signal ${signal}).`)
  }
  let nextRequest = task.firstRequest
  while (served.has(nextRequest)) nextRequest++
  return { open, end, nextRequest }
}

async function runDemo(context: DemoContext): Promise<DemoResult> {
  const device: DemoDevice = context.values.device === 'cuda' ? 'cuda' : 'host'
  const total = DEMO_WORKLOAD.users * DEMO_WORKLOAD.turns
  const half = Math.floor(total / 2)
  const directory = await mkdtemp(join(tmpdir(), 'kvtier-demo-'))
  const tally = new Tally()
  const progress = startProgress(context, 'serving requests', total)
  try {
    const first = { directory, device, firstRequest: 0, measurePaths: false }
    const killed = await runChild(context, first, half, tally, progress)
    const killedAfterRequests = tally.requests
    const second = { directory, device, firstRequest: killed.nextRequest, measurePaths: true }
    const finished = await runChild(context, second, Number.POSITIVE_INFINITY, tally, progress)
    const paths = finished.end?.paths ?? []
    return {
      requests: tally.requests,
      tokens: {
        asked: tally.asked,
        recomputed: tally.asked - tally.device - tally.host - tally.disk,
        byTier: { device: tally.device, host: tally.host, disk: tally.disk },
      },
      verifiedBlocks: tally.verified + paths.reduce((sum, path) => sum + path.verifiedBlocks, 0),
      wrongBlocks: tally.wrong + paths.reduce((sum, path) => sum + path.wrongBlocks, 0),
      killedAfterRequests,
      recoveredBlocks: finished.open?.recoveredBlocks ?? 0,
      restartMs: Math.round(finished.open?.openMs ?? 0),
      checksumFailures: finished.end?.checksumFailures ?? 0,
      paths,
      simulated: finished.open?.simulated ?? false,
    }
  } finally {
    progress.end()
    await rm(directory, { recursive: true, force: true })
  }
}

/** The result for a terminal. */
export function showResult(result: DemoResult): string {
  const { tokens } = result
  const share = (count: number): string => formatPercent((100 * count) / Math.max(1, tokens.asked))
  const limit = result.paths.find((path) => path.path === 'memcpy limit')?.gbPerS ?? 0
  const counts = renderTable(
    [{ title: 'tokens' }, { title: 'count', align: 'right' }, { title: 'share', align: 'right' }],
    [
      ['asked', formatCount(tokens.asked), share(tokens.asked)],
      ['from device (G1)', formatCount(tokens.byTier.device), share(tokens.byTier.device)],
      ['from host (G2)', formatCount(tokens.byTier.host), share(tokens.byTier.host)],
      ['from disk (G3)', formatCount(tokens.byTier.disk), share(tokens.byTier.disk)],
      ['recomputed', formatCount(tokens.recomputed), share(tokens.recomputed)],
    ],
  )
  const paths = renderTable(
    [
      { title: 'path' },
      { title: 'bytes', align: 'right' },
      { title: 'rate', align: 'right' },
      { title: 'of memcpy', align: 'right' },
    ],
    result.paths.map((path) => [
      path.path,
      formatBytes(path.bytes),
      formatRate(path.gbPerS * 1e9),
      limit > 0 ? (path.gbPerS / limit).toFixed(2) : '-',
    ]),
  )
  return (
    `${counts}\n${paths}\n` +
    (result.simulated
      ? "The GPU is the simulated driver's: bytes were checked, rates say nothing about a GPU.\n"
      : '') +
    `${formatCount(result.requests)} requests; killed with SIGKILL after ${formatCount(result.killedAfterRequests)}, ` +
    `started again in ${formatDuration(result.restartMs)} with ${formatCount(result.recoveredBlocks)} blocks from disk.\n` +
    `blocks verified: ${formatCount(result.verifiedBlocks)}\nwrong blocks: ${formatCount(result.wrongBlocks)}\n`
  )
}

/** The verb. */
export const demo: Verb = defineVerb({
  name: 'demo',
  summary: 'run a workload through all tiers, kill it half-way, restart it warm, check every byte',
  usage: '',
  details:
    'Serves growing chats of several tenants through device memory, host memory and a disk tier in a temporary ' +
    'directory. The process is killed with SIGKILL half-way and another goes on. Every onboarded byte is compared with what ' +
    'was stored. Needs about 1.2 GiB of disk and 700 MiB of memory; takes well under a minute. Exit code 1 when a byte was wrong.',
  options: OPTIONS,
  operands: { least: 0, most: 0 },
  async run(context) {
    const result = await runDemo(context)
    return { json: result, text: showResult(result), exitCode: result.wrongBlocks === 0 ? 0 : 1 }
  },
})
