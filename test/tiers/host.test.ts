import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { slotsFor } from '../../lib/tiers/host.ts'
import { errorOf } from '../support/expect-code.ts'
import { HYBRID, LATENT, ODD, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, TEST_STRIDE, testOptions } from '../support/manager.ts'

describe('slots of host memory', () => {
  test.each([
    ['one layer group', TEST_LAYOUT],
    ['three layer groups', HYBRID],
    ['two parts', LATENT],
    ['odd sizes', ODD],
  ])('are as many of every group as the capacity buys, with %s', (_, layout) => {
    const stride = strideOf(layout)
    expect(slotsFor('host', layout, stride)).toBe(1)
    expect(slotsFor('host', layout, 10 * stride - 1)).toBe(9)
    expect(slotsFor('host', layout, 10 * stride)).toBe(10)
    expect(slotsFor('disk', layout, 10 * stride, 128)).toBe(9)
    const error = errorOf('ERR_KV_CAPACITY_TOO_SMALL', () => slotsFor('host', layout, stride - 1))
    expect(error.message).toContain(`${stride - 1}`)
    expect(error.message).toContain(`${stride}`)
  })

  test('are there when the manager is open, and all free', async () => {
    const options = testOptions(null, { layout: HYBRID, host: { capacityBytes: 5 * strideOf(HYBRID) } })
    const manager = await BlockManager.open(options)
    expect(manager.stats().tiers.host).toEqual({
      slots: 15,
      failure: null,
      held: 0,
      pinned: 0,
      filling: 0,
      free: 15,
      capacityBytes: 5 * strideOf(HYBRID),
    })
    expect(manager.stats().tiers.disk).toMatchObject({ slots: 0, capacityBytes: 0, failure: null })
    expect(manager.stats().diskOpenMs).toBe(0)
    await manager.close()
  })

  test('can be more than one, with two managers in a process', async () => {
    const one = await BlockManager.open(testOptions(null))
    const two = await BlockManager.open(testOptions(null, { host: { capacityBytes: 3 * TEST_STRIDE } }))
    expect([one, two].map((manager) => manager.stats().tiers.host.slots)).toEqual([16, 3])
    await one.close()
    await two.close()
  })
})
