/**
 * The demo's child process: serves the workload and tells its parent, who kills it half-way.
 */
import { BlockManager } from '../../block-manager.js'
import { isKvError } from '../../errors.js'
import { binding } from '../../native/binding.js'
import { completions } from '../../native/completions.js'
import { isSimulated, probeGpus } from '../../tiers/cuda.js'
import { PatternEngine } from '../pattern-engine.js'
import type { WorkerMessage, WorkerTask } from './messages.js'
import { measurePaths } from './paths.js'
import { DEMO_CAPACITY, DEMO_CONCURRENCY, DEMO_LAYOUT, DEMO_WORKLOAD, demoDevice } from './settings.js'
import { workload } from './workload.js'

/** Tells the parent, if there still is one; `then` comes in either case. */
function tell(message: WorkerMessage, then: () => void = () => undefined): void {
  if (process.send === undefined) then()
  else process.send(message, then)
}

async function run(task: WorkerTask): Promise<void> {
  const started = performance.now()
  const manager = await BlockManager.open({
    layout: DEMO_LAYOUT,
    model: 'kvtier-demo',
    device: demoDevice(task.device, DEMO_CAPACITY.deviceSlots),
    host: { capacityBytes: DEMO_CAPACITY.hostBytes },
    disk: { directory: task.directory, capacityBytes: DEMO_CAPACITY.diskBytes },
  })
  const { counters } = manager.stats()
  const openMs = performance.now() - started
  const [gpu = ''] = task.device === 'cuda' ? (await probeGpus(binding, completions())).devices : []
  tell({ type: 'open', openMs, recoveredBlocks: counters.recovered, simulated: isSimulated(gpu) })
  const engine = new PatternEngine(manager)
  const requests = workload(DEMO_WORKLOAD)
  let number = 0
  const serveNext = async (): Promise<void> => {
    for (const request of requests) {
      const mine = number++
      if (mine < task.firstRequest) continue
      const sequence = manager.sequence(request.tokens, { tenant: request.tenant })
      tell({ type: 'served', request: mine, tally: await engine.serve(sequence) })
    }
  }
  await Promise.all(Array.from({ length: DEMO_CONCURRENCY }, serveNext))
  const after = manager.stats().counters
  await manager.close()
  const end: WorkerMessage = {
    type: 'end',
    paths: task.measurePaths ? await measurePaths(task.directory, task.device) : [],
    checksumFailures: after.checksumFailures,
    evicted: { device: after.evictedFromDevice, host: after.evictedFromHost, disk: after.evictedFromDisk },
  }
  await new Promise<void>((resolve) => tell(end, resolve))
}

// Whoever reads the messages has all of them, or is gone.
process.once('disconnect', () => process.exit())
try {
  await run(JSON.parse(process.argv[2] ?? '{}') as WorkerTask)
  process.disconnect?.()
} catch (error) {
  process.exitCode = 1
  // What is no error of kvtier's is a bug, whose place its stack says.
  const code = isKvError(error) ? error.code : 'ERR_KV_INTERNAL'
  const said = error instanceof Error ? (error.stack ?? error.message) : String(error)
  const message = isKvError(error) ? error.message : said
  // The requests beside the one that failed are still on their way; they end here.
  tell({ type: 'failed', code, message }, () => process.exit())
}
