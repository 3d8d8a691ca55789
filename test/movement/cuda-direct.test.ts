/**
 * Blocks that go directly from disk to a GPU, on the simulated driver and cuFile, whose times mean nothing: which way they
 * go where that is measured is for the native tests.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import type { ManagerStats } from '../../lib/stats.ts'
import { ownedDevice } from '../support/device-kind.ts'
import { TEST_STRIDE, testOptions, tokens } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { SIM_CUDA, sim } from '../support/sim-engine.ts'
import { load, store } from '../support/slots.ts'

process.env.KVTIER_CUFILE_LIBRARY = join(dirname(SIM_CUDA), 'libkvtier_sim_cufile.so')

const NOT_MEASURED = { directGbPerS: null, stagedGbPerS: null }

/** Where the blocks are. */
const directory = mkdtempSync(join(tmpdir(), 'kvtier-test-'))
const DISK = { directory, capacityBytes: 64 * (TEST_STRIDE + 128) }
const LENT_OUT = tokens(9, 64)
const STORED = tokens(1, 48)

beforeAll(async () => {
  const manager = await BlockManager.open(testOptions(null, { disk: { ...DISK, gpuDirect: 'never' } }))
  await store(manager, manager.sequence(STORED, { tenant: 'a' }), { until: 'disk' })
  await manager.close()
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Loads blocks from disk that leave no copy in host memory; what the manager said, and how many copies that took. */
async function loadFromDisk(
  changes: Partial<NonNullable<ManagerOptions['disk']>>,
  device: ManagerOptions['device'] = ownedDevice(32, 'contiguous'),
  beforeOpen: () => void = () => {},
): Promise<{ said: ManagerStats['diskToDevice']; copies: number }> {
  const files = readdirSync(directory, { recursive: true })
  beforeOpen()
  const manager = await BlockManager.open(testOptions(null, { device, disk: { ...DISK, ...changes } }))
  try {
    expect(readdirSync(directory, { recursive: true })).toEqual(files)
    const taken = await manager.host.reserve(manager.sequence(LENT_OUT, { tenant: 'a' }))
    const before = sim.calls('cuMemcpyHtoDAsync')
    const { tokens: came, wrong } = await load(manager, manager.sequence(STORED, { tenant: 'a' }))
    const copies = sim.calls('cuMemcpyHtoDAsync') - before
    expect({ came, wrong }).toEqual({ came: STORED.length, wrong: 0 })
    taken.release()
    expectQuiet(manager)
    return { said: manager.stats().diskToDevice, copies }
  } finally {
    await manager.close()
  }
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

test('not where the memory cannot be registered, which says why', async () => {
  // The first registration is the trial's, of memory of its own.
  const { said, copies } = await loadFromDisk({ gpuDirect: 'always' }, undefined, () =>
    sim.failCall('cuMemGetAddressRange', 2, 2, 1),
  )
  const load = { direct: false, ...NOT_MEASURED }
  const reason = expect.stringContaining('cuMemGetAddressRange')
  expect(said).toEqual({ available: false, reason, block: load, run: load, scattered: load })
  expect(copies).toBeGreaterThan(0)
})
