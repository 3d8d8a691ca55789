/**
 * Many requests of every kind beside each other, with a clock that jumps, with and without a disk that fails, lies and
 * flips bits in every way at once: no wrong byte, no hang, nothing left in use, and a manager that works when the disk
 * does. Seeded; KVTIER_LONG=1 runs more seeds.
 */
import { afterEach, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import type { FaultProfile } from '../../lib/native/binding.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { ON_GPU, ownedDevice } from '../support/device-kind.ts'
import { testing, turn, withFaults } from '../support/io.ts'
import { diskStrideOf, HYBRID, LATENT, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { numbers, PROMPTS, promptOf, Requests, TENANTS } from '../support/requests.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

const SEEDS = process.env.KVTIER_LONG === '1' ? 60 : ON_GPU ? 2 : 6
const WAVES = 10
const AT_ONCE = 6
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

const LAYOUTS: readonly (readonly [string, ModelLayout])[] = [
  ['one layer group', TEST_LAYOUT],
  ['three layer groups', HYBRID],
  ['latent vectors', LATENT],
]
const CASES = Array.from({ length: SEEDS }, (_, i) => i + 1).flatMap((seed) =>
  LAYOUTS.map(([name, layout]) => [seed, name, layout] as const),
)

function optionsFor(layout: ModelLayout, directory: string, leaveLastBlock: boolean): ManagerOptions {
  const stride = strideOf(layout)
  return testOptions(null, {
    layout,
    device: ownedDevice(26),
    host: { capacityBytes: 12 * stride },
    disk: { directory, capacityBytes: 20 * diskStrideOf(layout) },
    quotas: { quota: { hostBytes: 5 * stride, diskBytes: 7 * stride } },
    engine: { threads: 4 },
    leaveLastBlock,
  })
}

/** Every prompt of every tenant is right as far as it is held; in the end it can be stored and loaded. */
async function checkAll(manager: BlockManager, storing: boolean): Promise<void> {
  for (let n = 0; n < PROMPTS; n++) {
    const tenant = TENANTS[n % TENANTS.length] ?? 'a'
    const sequence = manager.sequence(promptOf(n), { tenant })
    emptyDevice(manager)
    expect((await load(manager, sequence)).wrong).toBe(0)
    if (storing) {
      await store(manager, sequence, { until: 'disk' })
      expect((await load(manager, sequence)).wrong).toBe(0)
    }
    expectQuiet(manager)
  }
}

/** Waves of requests; the clock jumps a little before each. */
async function runWaves(
  manager: BlockManager,
  next: (limit: number) => number,
  clock: { now: number },
): Promise<Requests> {
  const requests = new Requests(manager, next)
  for (let wave = 0; wave < WAVES; wave++) {
    clock.now += next(900)
    await Promise.all(Array.from({ length: AT_ONCE }, () => requests.run()))
  }
  await requests.end()
  // Readings that ended early leave their pins when the disk has answered.
  while (manager.stats().tiers.disk.pinned > 0) await turn()
  return requests
}

function mockClock(): { now: number } {
  const clock = { now: 1_800_000_000_000 }
  vi.spyOn(Date, 'now').mockImplementation(() => clock.now)
  return clock
}

test.each(CASES)(
  'seed %d: no request of many gets a wrong byte from a disk that fails and lies, with %s',
  async (seed, _, layout) => {
    await withDirectory(async (directory) => {
      const clock = mockClock()
      const options = optionsFor(layout, directory, seed % 2 === 0)
      const next = numbers(seed)
      let manager = await BlockManager.open(options)
      let injected = 0
      for (let round = 0; round < 2; round++) {
        await withFaults({ seed: seed * 100 + round, ...EVERYTHING }, async () => {
          const { codes } = await runWaves(manager, next, clock)
          expect(codes.has('ERR_KV_INTERNAL')).toBe(false)
          await manager.flush()
          injected += testing.faultsInjected()
        })
        expectQuiet(manager)
        await checkAll(manager, true)
        await manager.close({ flush: seed % 2 === 0 })
        manager = await BlockManager.open(options)
        await checkAll(manager, false)
      }
      expect(injected).toBeGreaterThan(0)
      await manager.close()
    })
  },
)

test.each(CASES)(
  'seed %d: many requests on a sound disk see no failure but a want of room, with %s',
  async (seed, _, layout) => {
    await withDirectory(async (directory) => {
      const clock = mockClock()
      const options = optionsFor(layout, directory, seed % 2 === 1)
      const next = numbers(seed + 1000)
      let manager = await BlockManager.open(options)
      let checked = 0
      for (let round = 0; round < 3; round++) {
        const { codes, checkedBlocks } = await runWaves(manager, next, clock)
        checked += checkedBlocks
        for (const code of codes) {
          expect(code).toMatch(/^(OK|ERR_KV_(ABORTED|OUT_OF_BLOCKS|OVER_QUOTA|PARENT_LOST))$/)
        }
        const { counters } = manager.stats()
        expect(counters).toMatchObject({ checksumFailures: 0 })
        expectQuiet(manager)
        await checkAll(manager, round === 1)
        await manager.close({ flush: round === 0 })
        manager = await BlockManager.open(options)
      }
      expect(checked).toBeGreaterThan(0)
      await manager.close()
    })
  },
)
