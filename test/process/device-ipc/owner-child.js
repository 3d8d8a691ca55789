/**
 * A process that owns a GPU's memory, and does with it what its parent says: shares it, computes blocks into its slots and
 * checks them, and writes slots in a stream that is held back.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { PatternEngine } from '../../../dist/cli/pattern-engine.js'
import { BlockManager, defineLayout, MiB } from '../../../dist/index.js'

const sim = createRequire(import.meta.url)(join(dirname(process.env.KVTIER_CUDA_LIBRARY), 'kvtier_sim_engine.node'))
const manager = await BlockManager.open({
  layout: defineLayout(JSON.parse(process.argv[2])),
  model: 'owner',
  device: { kind: 'cuda', ordinal: 1, slots: 8, strategies: { measure: 'never' } },
  host: { capacityBytes: MiB },
})
const engine = new PatternEngine(manager)
const stream = sim.makeStream(1)
const event = sim.makeEvent(1, true)

/** What it can be told. Bytes cross as base64. */
const commands = {
  share() {
    const { regions, ...device } = manager.device.share()
    const full = regions.full.map(({ ipc, ...region }) => ({ ...region, ipc: Buffer.from(ipc).toString('base64') }))
    return { ...device, regions: { full } }
  },
  async compute({ slots, hashes }) {
    await engine.compute(Uint32Array.from(slots), Uint8Array.from(Buffer.from(hashes, 'base64')))
  },
  check({ slots, hashes }) {
    return engine.check(Uint32Array.from(slots), Uint8Array.from(Buffer.from(hashes, 'base64')))
  },
  /** Everything becomes `value`, later; the handle of an event behind it. */
  fillHeld({ value }) {
    sim.holdStream(stream)
    for (const { pointer, bytes } of manager.device.regions()) sim.fill(1, stream, pointer, value, bytes)
    sim.record(1, event, stream)
    return Buffer.from(sim.eventHandle(1, event)).toString('base64')
  },
  release() {
    sim.release()
  },
  async close() {
    sim.release()
    await manager.close()
    return sim.violations()
  },
}

process.on('message', async ({ command, options }) => {
  const result = await commands[command](options ?? {})
  process.send({ result })
  if (command === 'close') process.disconnect()
})
process.send({ result: 'open' })
