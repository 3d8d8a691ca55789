/** How copies are chosen when a manager with a GPU is opened, on the simulated driver. */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { CopyStrategies } from '../../lib/device-options.ts'
import { forgetChoices } from '../../lib/tiers/calibration.ts'
import { temporaryFolder } from '../support/folder.ts'
import { testOptions, tokens } from '../support/manager.ts'
import { expectNoViolations, sim } from '../support/sim-engine.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

beforeEach(forgetChoices)
afterEach(expectNoViolations)

/** A cache folder of the test's own. */
function ownCache(): string {
  const folder = temporaryFolder()
  vi.stubEnv('XDG_CACHE_HOME', folder)
  onTestFinished(() => void vi.unstubAllEnvs())
  return join(folder, 'kvtier')
}

/** Opens a manager, stores and loads; how many copies were timed at opening, and kernels launched afterwards. */
async function use(strategies: CopyStrategies): Promise<{ timed: number; launched: number }> {
  const before = sim.calls('cuEventElapsedTime')
  const manager = await BlockManager.open(testOptions(null, { device: { kind: 'cuda', slots: 16, strategies } }))
  const opened = [sim.calls('cuEventElapsedTime'), sim.calls('cuLaunchKernel')] as const
  try {
    const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
    expect((await store(manager, sequence)).tokens).toBe(32)
    emptyDevice(manager)
    expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
  } finally {
    await manager.close()
  }
  return { timed: opened[0] - before, launched: sim.calls('cuLaunchKernel') - opened[1] }
}

test('a GPU is measured when it is first used, and found again by the next process', async () => {
  const folder = ownCache()
  expect((await use({})).timed).toBeGreaterThan(0)
  const kept = readdirSync(folder)
  expect(kept.length).toBe(1)
  forgetChoices()
  expect((await use({})).timed).toBe(0)
  expect((await use({ measure: 'again' })).timed).toBeGreaterThan(0)
  forgetChoices()
  writeFileSync(join(folder, kept[0] ?? ''), '{"format":1,"choices":"AAAA"}')
  expect((await use({})).timed).toBeGreaterThan(0)
  forgetChoices()
  expect((await use({})).timed).toBe(0)
})

test('a GPU that cannot be measured, or whose figures cannot be kept, is used all the same', async () => {
  const folder = ownCache()
  sim.failCall('cuEventElapsedTime', 1, 999, 0)
  try {
    await use({})
  } finally {
    sim.failNothing()
  }
  expect(readdirSync(join(folder, '..'))).toEqual([])
  forgetChoices()
  writeFileSync(folder, 'no folder')
  expect((await use({})).timed).toBeGreaterThan(0)
})

test('ways to copy that are forbidden are not taken', async () => {
  ownCache()
  expect((await use({ measure: 'never' })).launched).toBeGreaterThan(0)
  expect((await use({ measure: 'never', forbid: ['kernel', 'staged'] })).launched).toBe(0)
})
