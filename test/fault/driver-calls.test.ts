/**
 * Every call of the driver fails once, one after the other, over opening a manager, storing, loading and closing: what
 * is offered is right, what failed is a miss or a typed error, and nothing stays behind.
 */
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { isKvError } from '../../lib/errors.ts'
import { fence } from '../../lib/movement/fence.ts'
import { startBatch } from '../../lib/movement/native-batch.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { binding } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { CODE } from '../../lib/native/generated.ts'
import { testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { expectNoViolations, sim } from '../support/sim-engine.ts'
import { emptyDevice, hashesOf } from '../support/slots.ts'

/** What the driver answers once: out of memory, and an error that says nothing and passes. */
const CODES = [2, 999]

/** The engine's, whose own calls are not to fail. */
const event = sim.makeEvent(0)

type Way = 'startFillPattern' | 'startCheckPattern'

/** Computes or checks slots; the codes of each. */
async function pattern(manager: BlockManager, way: Way, sequence: Sequence, slots: Uint32Array): Promise<number[]> {
  const hashes = hashesOf(sequence, 0, slots.length)
  const storage = manager.device.storage()
  const batch = startBatch(completions(), slots.length, (ticket) => binding[way](ticket, storage, slots, hashes))
  const { codes } = await batch.done
  await batch.settled
  return [...codes]
}

/** A manager's life. Throws what opening it throws; everything else must end well. */
async function live(directory: string): Promise<void> {
  const device = { kind: 'cuda', slots: 12, strategies: { measure: 'never' } } as const
  const manager = await BlockManager.open(testOptions(directory, { device }))
  try {
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    const reserved = manager.device.reserve(4)
    const computed = await pattern(manager, 'startFillPattern', sequence, reserved.slots())
    if (computed.every((code) => code === CODE.OK)) {
      const store = sequence.offload({ from: reserved, after: fence.event(event), until: 'disk' })
      await store.done
      await store.settled
    }
    reserved.release()
    emptyDevice(manager)
    for (const layerEvents of [true, false]) {
      const load = sequence.onboard({ after: [fence.stream(0n), fence.quiet()], layerEvents })
      await load.ready
      const { pin, tokens: found } = await load.done
      const slots = pin?.slots() ?? new Uint32Array()
      expect(slots.length * 4).toBe(found)
      if (slots.length > 0) {
        // A check that itself fails says nothing about the bytes.
        expect(await pattern(manager, 'startCheckPattern', sequence, slots)).not.toContain(CODE.ERR_KV_CHECKSUM)
      }
      pin?.release()
      await load.settled
      emptyDevice(manager)
    }
    manager.checkAccounting()
    expectQuiet(manager)
    expect(manager.stats().tiers.device.failure).toBeNull()
  } finally {
    await manager.close()
  }
}

test.each(CODES)('each call answers %d once', { timeout: 600_000 }, async (code) => {
  await withDirectory(async (directory) => live(`${directory}/warm`))
  let failures = 0
  for (let nth = 1; ; nth++) {
    const before = sim.calls(null)
    const allocated = sim.count('allocated_bytes')
    await withDirectory(async (directory) => {
      sim.failCall(null, nth, code, 1)
      try {
        await live(directory)
      } catch (error) {
        if (!isKvError(error)) throw error
      } finally {
        sim.failNothing()
      }
    })
    expect(sim.count('allocated_bytes'), `after call ${nth}`).toBe(allocated)
    expectNoViolations()
    if (sim.calls(null) - before < nth) break
    failures++
  }
  expect(failures).toBeGreaterThan(50)
  console.log(`driver calls that failed with ${code}: ${failures}`)
})
