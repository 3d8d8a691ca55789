/** More blocks than one native transfer may have. */
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { defineLayout } from '../../lib/identity/model-layout.ts'
import { fence } from '../../lib/movement/fence.ts'
import { LIMITS } from '../../lib/native/generated.ts'
import { BorrowedMemory } from '../support/borrowed.ts'
import { testing, withFaults } from '../support/io.ts'
import { diskStrideOf, strideOf } from '../support/layouts.ts'
import { testOptions, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'

const BLOCKS = LIMITS.maxBlocksPerTransfer + 3000

const layout = defineLayout({
  tokensPerBlock: 1,
  groups: [{ name: 'full', kind: 'full', layers: 1, bytesPerToken: 4 }],
})

/** Each slot's eight bytes: its number and the number's complement. */
function numbered(memory: BorrowedMemory): Uint32Array {
  const [region] = memory.device.regions.full ?? []
  return new Uint32Array(region?.buffer ?? new ArrayBuffer(0))
}

test('a prompt of very many blocks goes to disk and comes back whole, in several transfers', async () => {
  await withDirectory(async (directory) => {
    const memory = new BorrowedMemory(layout, 'layersKvInner', BLOCKS)
    const open = () =>
      BlockManager.open(
        testOptions(null, {
          layout,
          device: memory.device,
          host: { capacityBytes: BLOCKS * strideOf(layout) },
          disk: { directory, capacityBytes: BLOCKS * diskStrideOf(layout) },
          engine: { threads: 4 },
        }),
      )
    const words = numbered(memory)
    for (let i = 0; i < BLOCKS; i++) words.set([i, ~i >>> 0], i * 2)
    const slots = Uint32Array.from({ length: BLOCKS }, (_, i) => i)
    const prompt = slots.map((i) => i * 7)

    const manager = await open()
    const sequence = manager.sequence(prompt, { tenant: 'a' })
    const store = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
    const stored = await store.done
    expect(stored).toMatchObject({ blockCount: BLOCKS, tokens: BLOCKS, arrived: BLOCKS, message: '' })
    await store.settled
    expect(manager.stats().tiers.disk.held).toBe(BLOCKS)
    expectQuiet(manager)
    await manager.close()

    const next = await open()
    expect(next.stats().counters.recovered).toBe(BLOCKS)
    words.fill(0)
    // Block i comes back into the slot that is as far from the end.
    const into = slots.map((i) => BLOCKS - 1 - i)
    const again = next.sequence(prompt, { tenant: 'a' })
    expect(again.match()).toMatchObject({ tokens: BLOCKS, byTier: { disk: BLOCKS } })
    await withFaults({ seed: 1, shortRead: 0.2 }, async () => {
      const load = again.onboard({ into, after: fence.quiet() })
      const loaded = await load.done
      expect(loaded).toMatchObject({ blockCount: BLOCKS, tokens: BLOCKS, arrived: BLOCKS, bytes: BLOCKS * 8 })
      await load.settled
      expect(testing.faultsInjected()).toBeGreaterThan(0)
    })
    let wrong = 0
    for (let i = 0; i < BLOCKS; i++) {
      const at = (BLOCKS - 1 - i) * 2
      if (words[at] !== i || words[at + 1] !== ~i >>> 0) wrong++
    }
    expect(wrong).toBe(0)
    expectQuiet(next)
    await next.close()
  })
})
