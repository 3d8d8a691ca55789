/** Events a layer, waited for by an engine's stream on the simulated driver. */
import { afterEach, describe, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { LayerEvents } from '../../lib/movement/layer-events.ts'
import { bytesOf } from '../support/borrowed.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { isSettled, testing, withFaults, withHeldIo } from '../support/io.ts'
import { LATENT, WINDOWED } from '../support/layouts.ts'
import { TEST_LAYOUT, TEST_STRIDE, tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { expectNoViolations, sim, untilIdle } from '../support/sim-engine.ts'
import { checkPin, emptyDevice, store } from '../support/slots.ts'

afterEach(() => {
  sim.release()
  expectNoViolations()
})

const OWNED = { kind: 'cuda', slots: 32, strategies: { measure: 'never' } } as const

describe('an onboard with events a layer', () => {
  test('lets the engine read each layer as soon as its event is done, before the transfer is', async () => {
    const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 8)
    const stream = sim.makeStream(0)
    await withManager({ device: memory.device }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const bytes = (block: number) => bytesOf(block + 1, memory.blockBytes('full'))
      for (let block = 0; block < 4; block++) memory.write('full', block, bytes(block))
      await sequence.offload({ from: Uint32Array.of(0, 1, 2, 3), after: fence.quiet() }).settled
      const into = Uint32Array.of(7, 5, 6, 4)
      sim.hold()
      const transfer = sequence.onboard({ into, after: fence.quiet(), layerEvents: true })
      const events = await transfer.ready
      expect(await isSettled(transfer.done)).toBe(false)
      expect(events).toMatchObject({ tokens: 16, blockCount: 4 })
      expect(events?.slots()).toEqual(into)
      // The engine reads layer by layer, each behind its events alone.
      const scratch = sim.allocate(0, 4 * memory.blockBytes('full'))
      for (const layer of [0, 1]) {
        const waits = events?.events(layer) ?? []
        expect(waits.length).toBeGreaterThan(0)
        for (const event of waits) sim.wait(0, stream, event)
        into.forEach((slot, block) => {
          for (const run of memory.runs('full', slot).filter(({ region }) => region === layer)) {
            const target = scratch + BigInt(block * memory.blockBytes('full') + run.at)
            sim.copy(0, stream, target, run.pointer, run.length)
          }
        })
      }
      sim.release()
      await untilIdle(stream)
      for (let block = 0; block < 4; block++) {
        const found = sim.read(scratch + BigInt(block * memory.blockBytes('full')), memory.blockBytes('full'))
        expect(Buffer.from(found).equals(bytes(block)), `block ${block}`).toBe(true)
      }
      expect(codesOf(await transfer.done)).toEqual(Array(4).fill('OK'))
      await transfer.settled
      sim.free(0, scratch)
      expectQuiet(manager)
    })
    sim.destroyStream(0, stream)
    memory.free()
  })

  test('of owned memory hands out its slots, which its pin still holds', async () => {
    await withManager({ device: OWNED }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
      const events = await transfer.ready
      const result = await transfer.done
      expect([events?.tokens, result.tokens]).toEqual([32, 32])
      expect(events?.slots()).toEqual(result.pin?.slots())
      expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 8, wrong: 0 })
      await transfer.settled
      // All of it is there now: nothing to wait for.
      const again = sequence.onboard({ after: fence.quiet(), layerEvents: true })
      const there = await again.ready
      expect([there?.tokens, there?.events(0), there?.events(1)]).toEqual([32, [], []])
      ;(await again.done).pin?.release()
      result.pin?.release()
      await again.settled
      expectQuiet(manager)
    })
  })

  test('has them for each layer group, and for blocks from host memory and from disk', async () => {
    const host = { capacityBytes: 4 * TEST_STRIDE }
    await withManager({ device: OWNED, host }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      // More than host memory takes at once.
      for (const firstBlock of [0, 4]) await store(manager, sequence, { until: 'disk', firstBlock, blocks: 4 })
      emptyDevice(manager)
      expect(sequence.match().byTier).toMatchObject({ host: 16, disk: 16 })
      const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
      const events = await transfer.ready
      expect(events?.tokens).toBe(32)
      expect(events?.events(0).length).toBe(2)
      const result = await transfer.done
      expect(await checkPin(manager, sequence, result.pin)).toEqual({ checked: 8, wrong: 0 })
      result.pin?.release()
      await transfer.settled
    })
    await withManager({ layout: WINDOWED, device: OWNED }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
      const events = await transfer.ready
      expect([events?.events(1, 'full').length, events?.events(2, 'sliding').length]).toEqual([1, 1])
      expect(() => events?.events(2, 'full')).toThrow(expect.objectContaining({ code: 'ERR_KV_INVALID_VALUE' }))
      const result = await transfer.done
      expect(events?.slots('sliding')).toEqual(result.pin?.slots('sliding'))
      expect((await checkPin(manager, sequence, result.pin)).wrong).toBe(0)
      result.pin?.release()
      await transfer.settled
    })
  })

  test('on two GPUs has one for each', async () => {
    const device = { ...OWNED, ordinals: [0, 1] } as const
    await withManager({ layout: LATENT, device }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
      const events = await transfer.ready
      expect(new Set(events?.events(2)).size).toBe(2)
      const result = await transfer.done
      expect((await checkPin(manager, sequence, result.pin)).wrong).toBe(0)
      result.pin?.release()
      await transfer.settled
    })
  })

  test('is not ended by deadline, signal or cancel once they were handed out', async () => {
    await withManager({ device: OWNED }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      const controller = new AbortController()
      sim.hold()
      const limits = { signal: controller.signal, deadlineMs: 60_000 }
      const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true, ...limits })
      expect(await transfer.ready).not.toBeNull()
      controller.abort()
      transfer.cancel()
      expect(await isSettled(transfer.done)).toBe(false)
      sim.release()
      const result = await transfer.done
      expect(codesOf(result)).toEqual(Array(4).fill('OK'))
      result.pin?.release()
      await transfer.settled
      expectQuiet(manager)
    })
  })
})

describe('null is handed out', () => {
  /** A prompt of 4 blocks on disk alone. */
  async function withStored(run: (manager: BlockManager) => Promise<void>): Promise<void> {
    await withManager({ device: OWNED, host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
      for (const seed of [1, 2]) {
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
        emptyDevice(manager)
      }
      await run(manager)
      expectQuiet(manager)
    })
  }

  const endOf = async (transfer: {
    ready: Promise<LayerEvents | null>
    done: Promise<unknown>
    settled: Promise<void>
  }) => {
    const events = await transfer.ready
    const result = (await transfer.done) as { pin: { release(): void } | null; tokens: number }
    result.pin?.release()
    await transfer.settled
    return [events, result.tokens]
  }

  test('where none were asked for, and where nothing is held', async () => {
    await withStored(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect(await endOf(sequence.onboard({ after: fence.quiet() }))).toEqual([null, 16])
      const other = manager.sequence(tokens(3, 16), { tenant: 'a' })
      expect(await endOf(other.onboard({ after: fence.quiet(), layerEvents: true }))).toEqual([null, 0])
    })
  })

  test('when the transfer was ended before it was looked up what is held', async () => {
    await withStored(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const signal = AbortSignal.abort()
      expect(await endOf(sequence.onboard({ after: fence.quiet(), layerEvents: true, signal }))).toEqual([null, 0])
      const after = fence.promise(Promise.reject(new Error('the engine failed')))
      expect(await endOf(sequence.onboard({ after, layerEvents: true }))).toEqual([null, 0])
    })
  })

  test('at once where a block gets no slot, while the others are still read', async () => {
    await withStored(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const others = manager.device.reserve(30)
      await withHeldIo(async () => {
        const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
        expect(await transfer.ready).toBeNull()
        expect(await isSettled(transfer.done)).toBe(false)
        testing.releaseIo()
        expect(await endOf(transfer)).toEqual([null, 8])
      })
      others.release()
    })
  })

  test('when the transfer was ended before', async () => {
    await withStored(async (manager) => {
      await withHeldIo(async () => {
        const transfer = manager.sequence(tokens(1, 16), { tenant: 'a' }).onboard({
          after: fence.quiet(),
          layerEvents: true,
        })
        expect(await isSettled(transfer.ready)).toBe(false)
        transfer.cancel()
        expect(await transfer.ready).toBeNull()
        const result = await transfer.done
        expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_ABORTED'))
        result.pin?.release()
        testing.releaseIo()
        await transfer.settled
      })
    })
  })

  test('where a block is not the one that was stored', async () => {
    await withStored(async (manager) => {
      await withFaults({ seed: 1, readFlip: 1 }, async () => {
        const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
        expect(await endOf(sequence.onboard({ after: fence.quiet(), layerEvents: true }))).toEqual([null, 0])
      })
    })
  })

  test('as soon as one block is not right, whatever the others still wait for', async () => {
    await withManager({ device: OWNED, host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 20), { tenant: 'a' })
      await store(manager, sequence, { until: 'disk', blocks: 1 })
      await store(manager, sequence, { until: 'disk', firstBlock: 1 })
      emptyDevice(manager)
      expect(sequence.match().byTier).toMatchObject({ host: 16, disk: 4 })
      await withFaults({ seed: 1, readFlip: 1 }, async () => {
        sim.hold()
        const transfer = sequence.onboard({ after: fence.quiet(), layerEvents: true })
        expect(await transfer.ready).toBeNull()
        expect(await isSettled(transfer.done)).toBe(false)
        sim.release()
        const result = await transfer.done
        expect(result.tokens).toBe(0)
        result.pin?.release()
        await transfer.settled
      })
    })
  })

  test('where there are too few device slots', async () => {
    await withStored(async (manager) => {
      const taken = manager.device.reserve(30)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect(await endOf(sequence.onboard({ after: fence.quiet(), layerEvents: true }))).toEqual([null, 8])
      taken.release()
    })
  })

  test('where the device memory is of kind host', async () => {
    await withManager({ device: { kind: 'host', slots: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      expect(await endOf(sequence.onboard({ after: fence.quiet(), layerEvents: true }))).toEqual([null, 16])
    })
  })
})
