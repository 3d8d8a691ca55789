/** Failures of a GPU's driver that do not lose the GPU: what the caller is told of them. */
import { afterEach, expect, test } from 'vitest'
import { fence } from '../../lib/movement/fence.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf } from '../support/outcomes.ts'
import { sim } from '../support/sim-engine.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

/** CUDA_ERROR_OUT_OF_MEMORY and CUDA_ERROR_UNKNOWN, with what they are to a caller. */
const ERRORS = [
  [2, 'ERR_KV_OUT_OF_MEMORY'],
  [999, 'ERR_KV_IO'],
] as const
/** Copies that are single calls. */
const DEVICE = {
  kind: 'cuda',
  slots: 16,
  strategies: { measure: 'never', forbid: ['rectangle', 'batch', 'kernel', 'staged'] },
} as const

afterEach(() => sim.failNothing())

test.each(ERRORS)('a copy that fails (error %d) is told as %s of the device, each way', async (error, code) => {
  await withManager({ device: DEVICE }, async (manager) => {
    const heard: unknown[] = []
    manager.on('tierFailed', (event) => void heard.push([event.tier, event.code]))
    const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
    sim.failCall('cuMemcpyDtoHAsync', 1, error, 0)
    expect(codesOf(await store(manager, sequence))).toEqual(Array(4).fill(code))
    expect(heard.splice(0)).toEqual([['device', code]])
    sim.failNothing()
    expect((await store(manager, sequence)).tokens).toBe(16)
    emptyDevice(manager)
    sim.failCall('cuMemcpyHtoDAsync', 1, error, 0)
    const transfer = sequence.onboard({ after: fence.quiet() })
    const result = await transfer.done
    expect(codesOf(result)).toEqual(Array(4).fill(code))
    result.pin?.release()
    await transfer.settled
    expect(heard).toEqual([['device', code]])
    sim.failNothing()
    expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
  })
})

test.each(ERRORS)(
  'a copy from disk that fails (error %d) is told as %s of the device, not of the disk',
  async (error, code) => {
    await withManager({ device: DEVICE }, async (manager) => {
      const heard: unknown[] = []
      manager.on('tierFailed', (event) => void heard.push([event.tier, event.code]))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect((await store(manager, sequence, { until: 'disk' })).tokens).toBe(16)
      emptyDevice(manager)
      const others = await manager.host.reserve(manager.sequence(tokens(2, 64), { tenant: 'b' }))
      others.release()
      expect(sequence.match().byTier).toMatchObject({ device: 0, host: 0, disk: 16 })
      sim.failCall('cuMemcpyHtoDAsync', 1, error, 0)
      const transfer = sequence.onboard({ after: fence.quiet() })
      const result = await transfer.done
      expect(result.code(0)).toBe(code)
      result.pin?.release()
      await transfer.settled
      expect(heard).toEqual([['device', code]])
      sim.failNothing()
      expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
    })
  },
)
