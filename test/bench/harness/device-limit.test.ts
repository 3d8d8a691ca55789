import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type DeviceWay,
  type Elapsed,
  type LimitHandle,
  type Limits,
  loadLimits,
} from '../../../bench/harness/limits.js'

const folder = dirname(process.env.KVTIER_ADDON ?? '')
const limitsFile = join(folder, 'limits.node')
const driver = join(folder, 'libkvtier_sim_cuda.so')
// Sanitizers' builds have no limits, and other systems no simulated driver.
const isBuilt = existsSync(limitsFile) && existsSync(driver)

const byCopies: DeviceWay[] = ['plain', 'loop', 'batch-stream', 'batch-any', 'coalesced', 'rectangle', 'chosen']
const byKernels: DeviceWay[] = ['kernel', 'staged']

describe.skipIf(!isBuilt)('copies between a GPU and host memory, on the simulated driver', () => {
  let limits: Limits
  let device: LimitHandle<'device'>

  beforeEach(() => {
    process.env.KVTIER_LIMITS = limitsFile
    limits = loadLimits()
  })

  afterEach(() => {
    limits.close(device)
  })

  for (const scattered of [false, true]) {
    it(`bring every byte to its place in every way, with ${scattered ? 'scattered' : 'consecutive'} slots`, () => {
      device = limits.openDevice(driver, 0, 256, 6, 10, scattered)
      for (const toDevice of [false, true]) {
        for (const way of byCopies) expect([way, limits.isDeviceRight(device, way, toDevice, 4)]).toEqual([way, true])
        // A build may have no kernels.
        for (const way of byKernels) expect(limits.isDeviceRight(device, way, toDevice, 4)).not.toBe(false)
      }
    })
  }

  it('take time on the device and on the processor', () => {
    device = limits.openDevice(driver, 0, 4096, 4, 16, true)
    for (const way of byCopies) {
      const [seconds, cpuSeconds] = limits.runDevice(device, way, true, 4) as Elapsed
      expect(seconds).toBeGreaterThan(0)
      expect(cpuSeconds).toBeGreaterThan(0)
    }
  })

  it('say what they cannot do', () => {
    device = limits.openDevice(driver, 0, 4096, 1, 1, false)
    expect(() => limits.runDevice(device, 'sideways' as DeviceWay, true, 1)).toThrow("'sideways' is no way to copy")
    expect(() => limits.openDevice(driver, 99, 4096, 1, 1, false)).toThrow('99')
    expect(() => limits.openDevice('libnone.so.9', 0, 4096, 1, 1, false)).toThrow('libnone.so.9')
    expect(() => limits.openDevice(driver, 0, 0, 1, 1, false)).toThrow()
  })

  it('bring every byte to its place both ways at once', () => {
    device = limits.openDevice(driver, 0, 256, 6, 10, true)
    const towards = limits.openDevice(driver, 0, 256, 6, 10, true)
    for (const way of byCopies) expect([way, limits.areDevicesRight(device, towards, way, 4)]).toEqual([way, true])
    for (const way of byKernels) expect(limits.areDevicesRight(device, towards, way, 4)).not.toBe(false)
    const [seconds, cpuSeconds] = limits.runDevices(device, towards, 'loop', 1) as Elapsed
    expect(seconds).toBeGreaterThan(0)
    expect(cpuSeconds).toBeGreaterThan(0)
    limits.close(towards)
  })
})

describe.skipIf(!isBuilt)('matrix products, on the simulated driver', () => {
  let limits: Limits

  beforeEach(() => {
    process.env.KVTIER_LIMITS = limitsFile
    limits = loadLimits()
  })

  it('are right, and take time on the device', (test) => {
    const work = limits.openWork(driver, 0, 36)
    if (work === null) return test.skip('this build has no kernels')
    expect(limits.isWorkRight(work)).toBe(false)
    limits.startWork(work, 3)
    expect(limits.finishWork(work)).toBeGreaterThan(0)
    expect(limits.isWorkDone(work)).toBe(true)
    expect(limits.isWorkRight(work)).toBe(true)
    limits.close(work)
  })

  it('have a number of rows that can be cut into tiles', () => {
    expect(() => limits.openWork(driver, 0, 6)).toThrow('a matrix of 6 rows')
    expect(() => limits.openWork(driver, 0, 0)).toThrow('a matrix of 0 rows')
  })
})
