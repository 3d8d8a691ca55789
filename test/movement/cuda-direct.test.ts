/**
 * Blocks that go directly from disk to a GPU, on the simulated driver and cuFile, whose times mean nothing: which way they
 * go where that is measured is for the native tests.
 */
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import type { ManagerStats } from '../../lib/stats.ts'
import { ownedDevice } from '../support/device-kind.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { SIM_CUDA, sim } from '../support/sim-engine.ts'
import { load, store } from '../support/slots.ts'

process.env.KVTIER_CUFILE_LIBRARY = join(dirname(SIM_CUDA), 'libkvtier_sim_cufile.so')

const BLOCKS = 12
const NOT_MEASURED = { directGbPerS: null, stagedGbPerS: null }

type DiskChanges = Partial<NonNullable<ManagerOptions['disk']>>

/** Loads blocks from disk that leave no copy in host memory; what the manager said, and how many copies that took. */
async function loadFromDisk(
  changes: DiskChanges,
  device: ManagerOptions['device'] = ownedDevice(32, 'contiguous'),
  beforeOpen: () => void = () => {},
): Promise<{ said: ManagerStats['diskToDevice']; copies: number }> {
  return await withDirectory(async (directory) => {
    const disk = { directory, capacityBytes: 64 * (TEST_STRIDE + 128), ...changes }
    const before = await BlockManager.open(testOptions(null, { disk: { ...disk, gpuDirect: 'never' } }))
    await store(before, before.sequence(tokens(1, BLOCKS * 4), { tenant: 'a' }), { until: 'disk' })
    await before.close()
    const files = readdirSync(directory, { recursive: true })
    beforeOpen()
    const manager = await BlockManager.open(testOptions(null, { device, disk }))
    expect(readdirSync(directory, { recursive: true })).toEqual(files)
    const taken = await manager.host.reserve(manager.sequence(tokens(9, 64), { tenant: 'a' }))
    const from = sim.calls('cuMemcpyHtoDAsync')
    const { tokens: came, wrong } = await load(manager, manager.sequence(tokens(1, BLOCKS * 4), { tenant: 'a' }))
    const copies = sim.calls('cuMemcpyHtoDAsync') - from
    expect({ came, wrong }).toEqual({ came: BLOCKS * 4, wrong: 0 })
    taken.release()
    expectQuiet(manager)
    const said = manager.stats().diskToDevice
    await manager.close()
    return { said, copies }
  })
}

test('wherever it works, if the caller wants that; nothing is measured then', async () => {
  const { said, copies } = await loadFromDisk({ gpuDirect: 'always' })
  const load = { direct: true, ...NOT_MEASURED }
  expect(said).toEqual({ available: true, reason: '', block: load, run: load, scattered: load })
  expect(copies).toBe(0)
})

test('where it was measured to be no slower, and the figures and the reason go with that', async () => {
  const { said, copies } = await loadFromDisk({})
  if (said === null) throw new Error('direct transfers were not tried')
  const loads = [said.block, said.run, said.scattered]
  for (const { direct, directGbPerS, stagedGbPerS } of loads) {
    expect(directGbPerS).toBeGreaterThan(0)
    expect(stagedGbPerS).toBeGreaterThan(0)
    expect(direct).toBe((directGbPerS ?? 0) >= 0.97 * (stagedGbPerS ?? 0))
  }
  expect(said.available).toBe(loads.some(({ direct }) => direct))
  expect(said.reason === '').toBe(loads.every(({ direct }) => direct))
  if (said.reason !== '') expect(said.reason).toMatch(/faster: [\d.]+ against [\d.]+ GB\/s for /)
  if (!said.available) expect(copies).toBeGreaterThan(0)
})

test('never, if the caller does not want it, and nothing is tried then', async () => {
  const { said, copies } = await loadFromDisk({ gpuDirect: 'never' })
  expect(said).toBe(null)
  expect(copies).toBeGreaterThan(0)
  expect((await loadFromDisk({ direct: false, gpuDirect: 'always' })).said).toBe(null)
  expect((await loadFromDisk({ gpuDirect: 'always' }, ownedDevice(32))).said).toBe(null)
})

test('not where measuring it fails, which says so and costs nothing else', async () => {
  // The first copy towards the GPU is the trial's, the next ones are measured.
  const { said, copies } = await loadFromDisk({}, undefined, () => sim.failCall('cuMemcpyHtoDAsync', 2, 999, 1))
  const load = { direct: false, ...NOT_MEASURED }
  const reason = expect.stringMatching(/^direct transfers work, but .*could not be measured: cuMemcpyHtoDAsync/)
  expect(said).toEqual({ available: false, reason, block: load, run: load, scattered: load })
  expect(copies).toBeGreaterThan(0)
})

test('not where it does not work, which says why', async () => {
  const { said } = await loadFromDisk({ gpuDirect: 'always' }, undefined, () =>
    sim.failCall('cuMemcpyHtoDAsync', 1, 999, 1),
  )
  expect(said).toMatchObject({ available: false, reason: expect.stringContaining('were tried and do not work: ') })
})
