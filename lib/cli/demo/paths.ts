/**
 * Measures each path on its own: the same blocks device -> host, host -> disk, host -> device, and, after a restart,
 * disk -> device; beside them plain memcpy of the same fragments.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BlockManager } from '../../block-manager.js'
import { blockBytesOf } from '../../identity/model-layout.js'
import { fence } from '../../movement/fence.js'
import type { TransferResult } from '../../movement/transfer.js'
import { binding } from '../../native/binding.js'
import { completions } from '../../native/completions.js'
import { MiB } from '../../options.js'
import { PatternEngine } from '../pattern-engine.js'
import { DEMO_LAYOUT, type DemoDevice, demoDevice } from './settings.js'
import { SeededRandom } from './workload.js'

/** One path's rate. */
export interface PathRate {
  readonly path: 'memcpy limit' | 'device -> host' | 'host -> disk' | 'host -> device' | 'disk -> device'
  readonly bytes: number
  /** Billions of bytes a second. */
  readonly gbPerS: number
  readonly verifiedBlocks: number
  readonly wrongBlocks: number
}

const BLOCKS = 512

async function timed(run: () => Promise<TransferResult>): Promise<{ result: TransferResult; seconds: number }> {
  const started = performance.now()
  const result = await run()
  return { result, seconds: (performance.now() - started) / 1000 }
}

async function open(directory: string, kind: DemoDevice): Promise<BlockManager> {
  const bytes = blockBytesOf(DEMO_LAYOUT) * BLOCKS
  return await BlockManager.open({
    layout: DEMO_LAYOUT,
    model: 'kvtier-demo-paths',
    device: demoDevice(kind, BLOCKS * 2),
    host: { capacityBytes: bytes + 8 * MiB },
    disk: { directory, capacityBytes: bytes + 8 * MiB },
  })
}

/** Runs the measurement in a directory of its own; needs about 128 MiB of disk and 400 MiB of memory. */
export async function measurePaths(root: string, device: DemoDevice): Promise<PathRate[]> {
  const directory = join(root, 'paths')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const random = new SeededRandom(77)
  const tokens = Uint32Array.from({ length: BLOCKS * DEMO_LAYOUT.tokensPerBlock + 1 }, () => random.next())
  const rates: PathRate[] = []
  const add = (
    path: PathRate['path'],
    result: TransferResult,
    seconds: number,
    checked = { verified: 0, wrong: 0 },
  ): void => {
    const bytes = result.arrived * blockBytesOf(DEMO_LAYOUT)
    rates.push({
      path,
      bytes,
      gbPerS: bytes / seconds / 1e9,
      verifiedBlocks: checked.verified,
      wrongBlocks: checked.wrong,
    })
  }
  const fragmentBytes = DEMO_LAYOUT.tokensPerBlock * (DEMO_LAYOUT.groups[0]?.bytesPerToken ?? 1024) * 2
  const limit = await completions().call<number>((ticket) =>
    binding.startMeasureCopy(ticket, blockBytesOf(DEMO_LAYOUT) * BLOCKS, fragmentBytes),
  )
  rates.push({
    path: 'memcpy limit',
    bytes: blockBytesOf(DEMO_LAYOUT) * BLOCKS,
    gbPerS: limit,
    verifiedBlocks: 0,
    wrongBlocks: 0,
  })
  {
    const manager = await open(directory, device)
    const engine = new PatternEngine(manager)
    const sequence = manager.sequence(tokens, { tenant: 'paths' })
    await sequence.prepare()
    const fresh = manager.device.reserve(BLOCKS)
    await engine.compute(fresh.slots(), sequence.hashes.bytes.slice())
    const stored = await timed(() => sequence.offload({ from: fresh, after: fence.quiet() }).done)
    add('device -> host', stored.result, stored.seconds)
    const written = await timed(() => sequence.offload({ from: fresh, after: fence.quiet(), until: 'disk' }).done)
    add('host -> disk', written.result, written.seconds)
    fresh.release()
    await manager.close()
  }
  for (const path of ['disk -> device', 'host -> device'] as const) {
    // A restart empties device and host memory; the second time a load through the host tier fills that first.
    const manager = await open(directory, device)
    const engine = new PatternEngine(manager)
    const sequence = manager.sequence(tokens, { tenant: 'paths' })
    if (path === 'host -> device') (await manager.host.load(sequence)).release()
    await sequence.prepare()
    const loaded = await timed(() => sequence.onboard({ after: fence.quiet() }).done)
    const { pin } = loaded.result
    const checked =
      pin === null ? undefined : await engine.check(pin.slots(), sequence.hashes.bytes.slice(0, pin.blockCount * 32))
    add(path, loaded.result, loaded.seconds, checked)
    pin?.release()
    await manager.close()
  }
  return rates
}
