/**
 * Many requests beside each other while the disk fails, lies and flips bits in every way at once: no wrong byte, no hang,
 * nothing left in use, and a manager that works when the disk does. Seeded; KVTIER_LONG=1 runs more seeds.
 */
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { FaultProfile } from '../../lib/native/binding.ts'
import { testing, turn, withFaults } from '../support/io.ts'
import { diskStrideOf, HYBRID, LATENT, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { checkPin, compute, emptyDevice, load, store } from '../support/slots.ts'

const SEEDS = process.env.KVTIER_LONG === '1' ? 60 : 8
const EVERYTHING: Omit<FaultProfile, 'seed'> = {
  readError: 0.1,
  writeError: 0.1,
  writeNoSpace: 0.03,
  shortRead: 0.2,
  shortWrite: 0.2,
  readFlip: 0.05,
  writeFlip: 0.05,
  lostWrite: 0.05,
  misdirectedWrite: 0.05,
}

/** A seeded source of whole numbers below `limit`. */
function numbers(seed: number): (limit: number) => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % limit
  }
}

/** Prompts that share prefixes: prompt `n` has its first n % 4 blocks in common with others of the same n % 2. */
function promptOf(n: number, blocks: number): Uint32Array {
  const own = tokens(n + 10, blocks * 4)
  own.set(tokens(n % 2, Math.min(n % 4, blocks) * 4))
  return own
}

async function request(manager: BlockManager, next: (limit: number) => number): Promise<void> {
  const sequence = manager.sequence(promptOf(next(10), 1 + next(6)), { tenant: 'a', priority: next(100) })
  const controller = new AbortController()
  const limits = { signal: controller.signal, deadlineMs: 20_000 }
  const aborted = next(4) === 0
  if (aborted) void turn().then(() => controller.abort())
  if (next(2) === 0) {
    const transfer = sequence.onboard({ after: fence.quiet(), ...limits })
    const result = await transfer.done
    expect((await checkPin(manager, sequence, result.pin)).wrong).toBe(0)
    result.pin?.release()
    if (next(2) === 0) await transfer.settled
    return
  }
  let slots: ReturnType<BlockManager['device']['reserve']>
  try {
    slots = manager.device.reserve(sequence.blockCount)
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_KV_OUT_OF_BLOCKS' })
    return
  }
  await compute(manager, sequence, slots, 0)
  const until = next(2) === 0 ? 'disk' : 'host'
  const transfer = sequence.offload({ from: slots, after: fence.quiet(), until, ...limits })
  const result = await transfer.done
  expect(result.blockCount).toBe(sequence.blockCount)
  slots.release()
  if (next(2) === 0) await transfer.settled
}

const cases = Array.from({ length: SEEDS }, (_, i) => i + 1).flatMap((seed) =>
  (
    [
      ['one layer group', TEST_LAYOUT],
      ['three layer groups', HYBRID],
      ['latent vectors', LATENT],
    ] as const
  ).map(([name, layout]) => [seed, name, layout] as const),
)

test.each(cases)('seed %d: no request of many gets a wrong byte, with %s', async (seed, _, layout: ModelLayout) => {
  await withDirectory(async (directory) => {
    const options = testOptions(null, {
      layout,
      device: { kind: 'host', slots: 24 },
      host: { capacityBytes: 12 * strideOf(layout) },
      disk: { directory, capacityBytes: 20 * diskStrideOf(layout) },
      engine: { threads: 4 },
    })
    const next = numbers(seed)
    let manager = await BlockManager.open(options)
    let injected = 0
    for (let round = 0; round < 2; round++) {
      await withFaults({ seed: seed * 100 + round, ...EVERYTHING }, async () => {
        for (let wave = 0; wave < 8; wave++) await Promise.all(Array.from({ length: 5 }, () => request(manager, next)))
        await manager.flush()
        injected += testing.faultsInjected()
      })
      // Transfers that nobody waited for settle now.
      while (
        manager.stats().tiers.host.pinned + manager.stats().tiers.disk.pinned + manager.stats().tiers.device.filling >
        0
      ) {
        await turn()
      }
      expectQuiet(manager)
      for (let n = 0; n < 10; n++) {
        emptyDevice(manager)
        const sequence = manager.sequence(promptOf(n, 6), { tenant: 'a' })
        expect((await load(manager, sequence)).wrong).toBe(0)
        await store(manager, sequence, { until: 'disk' })
        expect((await load(manager, sequence)).wrong).toBe(0)
        expectQuiet(manager)
      }
      await manager.close({ flush: seed % 2 === 0 })
      manager = await BlockManager.open(options)
      for (let n = 0; n < 10; n++) {
        emptyDevice(manager)
        expect((await load(manager, manager.sequence(promptOf(n, 6), { tenant: 'a' }))).wrong).toBe(0)
      }
      expectQuiet(manager)
    }
    expect(injected).toBeGreaterThan(0)
    await manager.close()
  })
})
