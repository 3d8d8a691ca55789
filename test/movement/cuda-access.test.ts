/** Owned device memory in others' hands: addresses, Externals, and another manager of the process. */
import { afterEach, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { CudaIpcRegion } from '../../lib/device-options.ts'
import { fence } from '../../lib/movement/fence.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { errorOf } from '../support/expect-code.ts'
import { collect } from '../support/garbage.ts'
import { turn } from '../support/io.ts'
import { HYBRID, LATENT } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, tokens } from '../support/manager.ts'
import { codesOf } from '../support/outcomes.ts'
import { expectNoViolations, sim } from '../support/sim-engine.ts'
import { checkPin, load, store } from '../support/slots.ts'

afterEach(expectNoViolations)

const strategies = { measure: 'never' } as const
const OWNED = { kind: 'cuda', slots: 8, strategies } as const

test('the regions of owned memory are where its slots are, by layer group', async () => {
  const manager = await BlockManager.open(
    testOptions(null, { layout: HYBRID, device: OWNED, host: { capacityBytes: 1 << 20 } }),
  )
  const layers = HYBRID.groups.map(({ name }) => manager.device.regions(name).length)
  expect(layers).toEqual(HYBRID.groups.map((group) => group.layers))
  const all = HYBRID.groups.flatMap(({ name }) => manager.device.regions(name))
  expect(new Set(all.map(({ pointer }) => pointer)).size).toBe(all.length)
  for (const { pointer, bytes, ordinal } of all) expect([sim.read(pointer, bytes).length, ordinal]).toEqual([bytes, 0])
  errorOf('ERR_KV_INVALID_VALUE', () => manager.device.regions())
  errorOf('ERR_KV_INVALID_VALUE', () => manager.device.regions('none'))
  await manager.close()
  errorOf('ERR_KV_CLOSED', () => manager.device.regions('full'))
  errorOf('ERR_KV_CLOSED', () => manager.device.share())
})

test('parts on two GPUs have their regions there', async () => {
  const device = { ...OWNED, ordinals: [1, 0] }
  for (const layout of ['contiguous', 'layersKvInner'] as const) {
    const manager = await BlockManager.open(testOptions(null, { layout: LATENT, device: { ...device, layout } }))
    const ordinals = manager.device.regions().map(({ ordinal }) => ordinal)
    expect(ordinals).toEqual(layout === 'contiguous' ? [1, 0] : [1, 1, 1, 0, 0, 0])
    const { regions } = manager.device.share()
    expect(new Set((regions.latent as readonly CudaIpcRegion[]).map(({ uuid }) => uuid)).size).toBe(2)
    await manager.close()
  }
})

test('another manager of the process can move the blocks of owned memory, and gives back what is right', async () => {
  const owner = await BlockManager.open(testOptions(null, { device: OWNED }))
  const device = { kind: 'cuda', slots: 8, regions: { full: owner.device.regions() }, strategies } as const
  const mover = await BlockManager.open(testOptions(null, { device }))
  const sequence = owner.sequence(tokens(1, 16), { tenant: 'a' })
  await store(owner, sequence)
  const { pin } = await sequence.onboard({ after: fence.quiet() }).done
  const copied = mover.sequence(tokens(1, 16), { tenant: 'a' })
  const slots = pin?.slots() ?? new Uint32Array()
  const offload = copied.offload({ from: slots, after: fence.quiet() })
  expect(codesOf(await offload.done)).toEqual(Array(4).fill('OK'))
  await offload.settled
  for (const { pointer, bytes } of owner.device.regions()) sim.write(pointer, new Uint8Array(bytes))
  const onboard = copied.onboard({ into: slots, after: fence.quiet() })
  expect(codesOf(await onboard.done)).toEqual(Array(4).fill('OK'))
  await onboard.settled
  expect(await checkPin(owner, sequence, pin)).toEqual({ checked: 4, wrong: 0 })
  pin?.release()
  errorOf('ERR_KV_UNSUPPORTED', () => mover.device.regions())
  errorOf('ERR_KV_UNSUPPORTED', () => mover.device.share())
  await mover.close()
  expect(await load(owner, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
  await owner.close()
})

test('memory of kind host has no addresses to share', async () => {
  const manager = await BlockManager.open(testOptions(null, { device: { kind: 'host', slots: 8 } }))
  const error = errorOf('ERR_KV_UNSUPPORTED', () => manager.device.share())
  expect(error.message).toContain("kind: 'cuda'")
  await manager.close()
})

test('an engine may hand its memory over in Externals', async () => {
  const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 8)
  const full = memory.device.regions.full?.map(({ pointer, bytes }) => ({ pointer: sim.wrap(1, pointer, bytes, 0) }))
  const manager = await BlockManager.open(
    testOptions(null, { device: { ...memory.device, regions: { full: full ?? [] } } }),
  )
  const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
  for (const slot of [0, 1]) memory.write('full', slot, new Uint8Array(memory.blockBytes('full')).fill(slot + 1))
  await sequence.offload({ from: Uint32Array.of(0, 1), after: fence.quiet() }).settled
  const onboard = sequence.onboard({ into: Uint32Array.of(3, 2), after: fence.quiet() })
  await onboard.settled
  expect([3, 2].map((slot) => [...new Set(memory.read('full', slot))])).toEqual([[1], [2]])
  await manager.close()
  memory.free()
})

test.each([
  ['goes beyond its allocation', (memory: CudaMemory) => ({ ...memory.device.regions.full?.[0], bytes: 1 << 30 })],
  ['is no device memory', (memory: CudaMemory) => ({ ...memory.device.regions.full?.[0], pointer: 4096n })],
  ['is on another GPU', (memory: CudaMemory) => ({ ...memory.device.regions.full?.[0], ordinal: 1 })],
  ['is too short', (memory: CudaMemory) => ({ ...memory.device.regions.full?.[0], bytes: 8 })],
])('memory that %s is refused, and nothing stays open', async (_, change) => {
  const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 8)
  const full = [change(memory), memory.device.regions.full?.[1]] as never
  await expect(
    BlockManager.open(testOptions(null, { device: { ...memory.device, regions: { full } } })),
  ).rejects.toMatchObject({ code: 'ERR_KV_INVALID_VALUE' })
  memory.free()
  // Handles of managers before, which are closed, go when they are collected.
  for (let i = 0; i < 50 && sim.count('allocated_bytes') > 0; i++) {
    await turn()
    collect()
  }
  expect(sim.count('allocated_bytes')).toBe(0)
})

test('memory that was freed while it was lent makes transfers misses, with the reason', async () => {
  const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 8)
  const manager = await BlockManager.open(testOptions(null, { device: memory.device }))
  const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
  await sequence.offload({ from: Uint32Array.of(0, 1), after: fence.quiet() }).settled
  memory.free()
  const onboard = sequence.onboard({ into: Uint32Array.of(0, 1), after: fence.quiet() })
  const result = await onboard.done
  expect(codesOf(result)).toEqual(Array(2).fill('ERR_KV_INVALID_VALUE'))
  expect(result.message).not.toBe('')
  await onboard.settled
  manager.checkAccounting()
  await manager.close()
})
