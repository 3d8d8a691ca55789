/** Managers whose device memory is a GPU's: every byte through every way, on the simulated driver. */

import { afterEach, describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { DeviceOptions } from '../../lib/device-options.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import { fence } from '../../lib/movement/fence.ts'
import { LAYOUT_KINDS } from '../../lib/native/generated.ts'
import { bytesOf } from '../support/borrowed.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { diskStrideOf, LATENT, LAYOUTS, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { expectNoViolations, sim } from '../support/sim-engine.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

afterEach(expectNoViolations)

const CASES = LAYOUTS.flatMap(([name, layout]) => LAYOUT_KINDS.map((kind) => ({ name, layout, kind })))

/** Runs with a manager of 12 host blocks and 40 disk blocks. */
async function withCuda<T>(
  layout: ModelLayout,
  device: DeviceOptions,
  run: (manager: BlockManager) => Promise<T>,
): Promise<T> {
  return await withDirectory(async (directory) => {
    const manager = await BlockManager.open(
      testOptions(directory, {
        layout,
        device,
        host: { capacityBytes: 12 * strideOf(layout) },
        disk: { directory, capacityBytes: 40 * diskStrideOf(layout) },
      }),
    )
    try {
      return await run(manager)
    } finally {
      await manager.close({ flush: false })
    }
  })
}

describe('a GPU’s memory', () => {
  test.each(CASES)('that kvtier owns, with $name and $kind, gives back every byte from every tier', async (each) => {
    const strategies = { measure: 'never' } as const
    await withCuda(each.layout, { kind: 'cuda', slots: 8, layout: each.kind, strategies }, async (manager) => {
      const sequences = [1, 2, 3].map((seed) => manager.sequence(tokens(seed, 24), { tenant: 'a' }))
      for (const sequence of sequences) expect((await store(manager, sequence, { until: 'disk' })).tokens).toBe(24)
      for (const sequence of [...sequences, ...sequences]) {
        const loaded = await load(manager, sequence)
        expect(loaded).toMatchObject({ tokens: 24, wrong: 0 })
        expect(loaded.checked).toBeGreaterThan(0)
      }
      emptyDevice(manager)
      const { counters } = manager.stats()
      expect(counters.onboardedFromDisk).toBeGreaterThan(0)
      expect(await load(manager, sequences[2]!)).toMatchObject({ tokens: 24, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test.each(CASES)('that an engine lends, with $name and $kind, is moved to and from byte by byte', async (each) => {
    const memory = new CudaMemory(each.layout, each.kind, 12)
    await withCuda(each.layout, memory.device, (manager) => throughEngine(manager, each.layout, memory))
    memory.free()
  })

  test.each(['layersKvOuter', 'layersKvInner'] as const)('on two GPUs, a part on each, %s', async (kind) => {
    const memory = new CudaMemory(LATENT, kind, 12, [1, 0])
    await withCuda(LATENT, memory.device, (manager) => throughEngine(manager, LATENT, memory))
    memory.free()
    const strategies = { measure: 'never' } as const
    await withCuda(LATENT, { kind: 'cuda', ordinals: [1, 0], slots: 8, layout: kind, strategies }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 24), { tenant: 'a' })
      expect((await store(manager, sequence, { until: 'disk' })).tokens).toBe(24)
      emptyDevice(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 24, wrong: 0 })
    })
  })

  test('is given back when the manager is closed, and the memory that was lent is not', async () => {
    const before = sim.count('allocated_bytes')
    const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 4)
    const lent = sim.count('allocated_bytes')
    for (let round = 0; round < 3; round++) {
      await withCuda(TEST_LAYOUT, memory.device, async () => undefined)
      await withCuda(TEST_LAYOUT, { kind: 'cuda', slots: 4, strategies: { measure: 'never' } }, async () => undefined)
    }
    expect(sim.count('allocated_bytes')).toBe(lent)
    memory.free()
    expect(sim.count('allocated_bytes')).toBe(before)
  })
})

/** Blocks in one set of slots, stored, and loaded into others from host memory and from disk. */
async function throughEngine(manager: BlockManager, layout: ModelLayout, memory: CudaMemory): Promise<void> {
  const slots = (first: number) => {
    const each = Uint32Array.from({ length: 6 }, (_, i) => first + ((i * 5) % 6))
    return layout.groups.length === 1 ? each : Object.fromEntries(layout.groups.map(({ name }) => [name, each]))
  }
  const bytes = (group: string, block: number) => bytesOf(group.length * 100 + block, memory.blockBytes(group))
  const sequence = manager.sequence(tokens(9, 24), { tenant: 'a' })
  for (const { name } of layout.groups) {
    for (let block = 0; block < 6; block++) memory.write(name, (block * 5) % 6, bytes(name, block))
  }
  const stored = sequence.offload({ from: slots(0), after: fence.quiet(), until: 'disk' })
  expect(await stored.done).toMatchObject({ arrived: 6, tokens: 24, message: '' })
  await stored.settled
  for (const from of ['host', 'disk']) {
    if (from === 'disk') await emptyHost(manager)
    for (const { name } of layout.groups)
      for (let slot = 6; slot < 12; slot++) memory.write(name, slot, new Uint8Array(memory.blockBytes(name)))
    const loading = sequence.onboard({ into: slots(6), after: fence.quiet() })
    const loaded = await loading.done
    await loading.settled
    expect(loaded).toMatchObject({ arrived: 6, tokens: 24, message: '' })
    expect(loaded.tier(5)).toBe(from)
    for (const { name, kind } of layout.groups) {
      for (let block = kind === 'full' || kind === 'latent' ? 0 : 5; block < 6; block++) {
        const at = 6 + ((block * 5) % 6)
        expect(Buffer.from(memory.read(name, at)).equals(bytes(name, block)), `block ${block} of ${name}`).toBe(true)
      }
    }
  }
}

/** Makes every block leave host memory, by blocks of others that take their slots. */
async function emptyHost(manager: BlockManager): Promise<void> {
  const other = manager.sequence(tokens(77, 48), { tenant: 'b' })
  const reservation = await manager.host.reserve(other)
  for (const { name } of manager.layout.groups) {
    for (let i = 0; i < 12; i++) if (reservation.needs(i, name)) reservation.window(i, name).fill(i)
  }
  await reservation.publish({ until: 'disk' })
}
