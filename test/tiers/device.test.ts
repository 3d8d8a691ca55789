import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { BorrowedMemory } from '../support/borrowed.ts'
import { HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, tokens } from '../support/manager.ts'

const host = { capacityBytes: 4 * strideOf(HYBRID) }

describe('device memory', () => {
  test('that kvtier owns is a tier with slots of every layer group', async () => {
    const manager = await BlockManager.open(
      testOptions(null, { layout: HYBRID, host, device: { kind: 'host', slots: 5 } }),
    )
    expect(manager.stats().tiers.device).toMatchObject({ slots: 15, free: 15, held: 0 })
    await manager.close()
  })

  test('that the engine lends is none: kvtier accounts nothing there', async () => {
    const { device } = new BorrowedMemory(HYBRID, 'layersKvOuter', 5)
    const manager = await BlockManager.open(testOptions(null, { layout: HYBRID, host, device }))
    expect(manager.stats().tiers.device).toMatchObject({ slots: 0, free: 0 })
    await manager.close()
  })

  test('may be left out', async () => {
    const { device: _, ...options } = testOptions(null)
    const manager = await BlockManager.open(options)
    const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
    const reservation = await manager.host.reserve(sequence)
    for (const i of [0, 1]) reservation.window(i).fill(i)
    await reservation.publish()
    expect(sequence.match().byTier).toEqual({ device: 0, host: 8, disk: 0 })
    await manager.close()
  })

  test.each([
    ['lacks a layer group', (all: Record<string, Uint8Array[]>) => ({ full: all.full, sliding: all.sliding })],
    ['lacks a region', (all: Record<string, Uint8Array[]>) => ({ ...all, sliding: all.sliding?.slice(1) })],
    [
      'has a region too many',
      (all: Record<string, Uint8Array[]>) => ({ ...all, full: [...(all.full ?? []), new Uint8Array(8)] }),
    ],
    ['has a short region', (all: Record<string, Uint8Array[]>) => ({ ...all, full: [all.full?.[0]?.subarray(1)] })],
    [
      'names one region twice',
      (all: Record<string, Uint8Array[]>) => ({ ...all, state: [all.state?.[0], all.state?.[0]] }),
    ],
  ])('is refused with ERR_KV_INVALID_VALUE when it %s, and the memory is free again', async (_, change) => {
    const memory = new BorrowedMemory(HYBRID, 'layersKvInner', 4)
    const regions = change(memory.device.regions) as never
    const device = { ...memory.device, regions }
    await expect(BlockManager.open(testOptions(null, { layout: HYBRID, host, device }))).rejects.toMatchObject({
      code: 'ERR_KV_INVALID_VALUE',
    })
    const manager = await BlockManager.open(testOptions(null, { layout: HYBRID, host, device: memory.device }))
    await manager.close()
  })

  test('of a buffer that can be resized is refused, and one that was detached', async () => {
    const size = 4 * 2 * 4 * 1024
    const resizable = new Uint8Array(Reflect.construct(ArrayBuffer, [size, { maxByteLength: size * 2 }]) as ArrayBuffer)
    const open = (region: Uint8Array) =>
      BlockManager.open(
        testOptions(null, { device: { kind: 'host', slots: 4, regions: { full: [region, new Uint8Array(size)] } } }),
      )
    expect(TEST_LAYOUT.groups[0]).toMatchObject({ layers: 2, outer: 2, bytesPerToken: 1024 })
    await expect(open(resizable)).rejects.toMatchObject({ code: 'ERR_KV_INVALID_TYPE' })
    const detached = new Uint8Array(size)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    await expect(open(detached)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_KV_(DETACHED_ARRAY|INVALID_VALUE)$/),
    })
    await (await open(new Uint8Array(size))).close()
  })

  test('whose array is detached while it is lent fails transfers, and nothing else', async () => {
    const memory = new BorrowedMemory(TEST_LAYOUT, 'layersKvInner', 4)
    const manager = await BlockManager.open(testOptions(null, { device: memory.device }))
    const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
    const first = sequence.offload({ from: Uint32Array.of(0, 1), after: fence.quiet() })
    expect((await first.done).arrived).toBe(2)
    await first.settled
    const [region] = memory.device.regions.full ?? []
    structuredClone(region?.buffer, { transfer: [region?.buffer as ArrayBuffer] })
    const other = manager.sequence(tokens(2, 8), { tenant: 'a' })
    const store = other.offload({ from: Uint32Array.of(2, 3), after: fence.quiet() })
    const stored = await store.done
    expect([stored.code(0), stored.code(1)]).toEqual(Array(2).fill('ERR_KV_DETACHED_ARRAY'))
    await store.settled
    const load = sequence.onboard({ into: Uint32Array.of(0, 1), after: fence.quiet() })
    const loaded = await load.done
    expect([loaded.code(0), loaded.code(1)]).toEqual(Array(2).fill('ERR_KV_DETACHED_ARRAY'))
    await load.settled
    manager.checkAccounting()
    expect(manager.stats().tiers.host).toMatchObject({ held: 2, pinned: 0, filling: 0 })
    await manager.close()
  })
})
