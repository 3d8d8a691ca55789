/**
 * Fences of an engine's work on a GPU, and what happens without them, on the simulated driver: the engine's streams are
 * held, so that a missing wait gives wrong bytes every time.
 */
import { afterEach, describe, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { type Fence, fence } from '../../lib/movement/fence.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { deferred } from '../support/deferred.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled } from '../support/io.ts'
import { TEST_LAYOUT, tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { expectNoViolations, sim, untilIdle, untilQueued } from '../support/sim-engine.ts'
import { checkPin, emptyDevice, store } from '../support/slots.ts'

afterEach(() => {
  sim.release()
  expectNoViolations()
})

const SLOTS = Uint32Array.of(0, 1, 2, 3)
const NEW = 7
const OLD = 1

/** A manager with memory of an engine, and a stream of that engine. */
async function withEngine<T>(
  run: (manager: BlockManager, memory: CudaMemory, stream: bigint) => Promise<T>,
): Promise<T> {
  const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 8)
  const stream = sim.makeStream(0)
  try {
    return await withManager({ device: memory.device }, (manager) => run(manager, memory, stream))
  } finally {
    sim.release()
    await untilIdle(stream)
    sim.destroyStream(0, stream)
    memory.free()
  }
}

const fillAll = (memory: CudaMemory, stream: bigint, value: number): void => {
  for (const slot of SLOTS) memory.fillIn(stream, 'full', slot, value)
}
const writeAll = (memory: CudaMemory, value: number): void => {
  for (const slot of SLOTS) memory.write('full', slot, new Uint8Array(memory.blockBytes('full')).fill(value))
}
/** The one value that every byte of every slot has, or every value there is. */
const valuesOf = (memory: CudaMemory): number[] => [
  ...new Set([...SLOTS].flatMap((slot) => [...memory.read('full', slot)])),
]

async function stored(sequence: Sequence, after: Fence | Fence[]): Promise<string[]> {
  const transfer = sequence.offload({ from: SLOTS, after })
  const result = await transfer.done
  await transfer.settled
  return codesOf(result)
}

async function loaded(sequence: Sequence, after: Fence | Fence[] = fence.quiet()): Promise<string[]> {
  const transfer = sequence.onboard({ into: SLOTS, after })
  const result = await transfer.done
  await transfer.settled
  return codesOf(result)
}

/** Fences of what a stream of the engine does, as an engine may give them. */
const FENCES: readonly (readonly [string, (stream: bigint) => Fence | Fence[]])[] = [
  ['a stream', (stream) => fence.stream(stream)],
  ['a stream in an External', (stream) => fence.stream(sim.wrap(2, stream, 0, 0))],
  [
    'an event, which is destroyed at once',
    (stream) => {
      const event = sim.makeEvent(0)
      sim.record(0, event, stream)
      return fence.event(event)
    },
  ],
  [
    'an event in an External, beside others',
    (stream) => {
      const event = sim.makeEvent(0)
      sim.record(0, event, stream)
      return [fence.quiet(), fence.promise(Promise.resolve()), fence.event(sim.wrap(3, event, 0, -1))]
    },
  ],
]

describe('an offload', () => {
  test.each(FENCES)('behind %s stores what the engine wrote there', async (_, fenceOf) => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      writeAll(memory, OLD)
      sim.holdStream(stream)
      fillAll(memory, stream, NEW)
      const storing = stored(sequence, fenceOf(stream))
      expect(await isSettled(storing)).toBe(false)
      sim.release()
      expect(await storing).toEqual(Array(4).fill('OK'))
      writeAll(memory, OLD)
      await loaded(sequence)
      expect(valuesOf(memory)).toEqual([NEW])
      expectQuiet(manager)
    })
  })

  test('that says quiet where it is not stores what was there before: the fence is what makes it right', async () => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      writeAll(memory, OLD)
      sim.holdStream(stream)
      fillAll(memory, stream, NEW)
      expect(await stored(sequence, fence.quiet())).toEqual(Array(4).fill('OK'))
      sim.release()
      await untilIdle(stream)
      await loaded(sequence)
      expect(valuesOf(memory)).toEqual([OLD])
    })
  })

  test('waits for what was queued when it was called, and for nothing later', async () => {
    await withEngine(async (manager, _, stream) => {
      const scratch = sim.allocate(0, 64)
      const event = sim.makeEvent(0)
      sim.record(0, event, stream)
      const begin = deferred()
      const gate = fence.promise(begin.promise)
      const storing = [fence.stream(stream), fence.event(event)].map((after, i) => {
        return stored(manager.sequence(tokens(i + 1, 16), { tenant: 'a' }), [gate, after])
      })
      await untilIdle(stream)
      sim.holdStream(stream)
      sim.fill(0, stream, scratch, 1, 64)
      sim.record(0, event, stream)
      begin.resolve()
      for (const codes of await Promise.all(storing)) expect(codes).toEqual(Array(4).fill('OK'))
      expect(sim.pending(stream)).toBeGreaterThan(0)
      sim.release()
      await untilIdle(stream)
      sim.destroyEvent(0, event)
      sim.free(0, scratch)
    })
  })

  test('that is ended while it waits is misses at once, and settles when its work can no longer come', async () => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      sim.holdStream(stream)
      fillAll(memory, stream, NEW)
      const transfer = sequence.offload({ from: SLOTS, after: fence.stream(stream) })
      await untilQueued(sim.pending(stream) + 1)
      transfer.cancel()
      expect(codesOf(await transfer.done)).toEqual(Array(4).fill('ERR_KV_ABORTED'))
      sim.release()
      await transfer.settled
      expect(await stored(sequence, fence.quiet())).toEqual(Array(4).fill('OK'))
      expectQuiet(manager)
    })
  })
})

describe('owned memory', () => {
  test('is no hit before the work that fills it is done, also where its block needed no copy', async () => {
    const device = { kind: 'cuda', slots: 16, strategies: { measure: 'never' } } as const
    const stream = sim.makeStream(0)
    await withManager({ device }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      emptyDevice(manager)
      // Another request computes the same blocks again: they are held in host memory, and so do not move.
      const reserved = manager.device.reserve(4)
      sim.holdStream(stream)
      for (const { pointer, bytes } of manager.device.regions()) {
        const slotBytes = bytes / device.slots
        for (const slot of reserved.slots()) sim.fill(0, stream, pointer + BigInt(slot * slotBytes), OLD, slotBytes)
      }
      const offload = sequence.offload({ from: reserved, after: fence.stream(stream) })
      expect(codesOf(await offload.done)).toEqual(Array(4).fill('OK'))
      await offload.settled
      const onboard = sequence.onboard({ after: fence.quiet() })
      const { pin, tokens: found } = await onboard.done
      expect([found, await checkPin(manager, sequence, pin)]).toEqual([16, { checked: 4, wrong: 0 }])
      await onboard.settled
      pin?.release()
      sim.release()
      await untilIdle(stream)
      reserved.release()
      expectQuiet(manager)
    })
    sim.destroyStream(0, stream)
  })
})

describe('an onboard', () => {
  test.each(FENCES)('behind %s does not overwrite what the engine still uses', async (_, fenceOf) => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      writeAll(memory, NEW)
      await stored(sequence, fence.quiet())
      sim.holdStream(stream)
      // The engine's last use of the slots: had it not ended, it would write over what was loaded.
      fillAll(memory, stream, OLD)
      const loading = loaded(sequence, fenceOf(stream))
      expect(await isSettled(loading)).toBe(false)
      sim.release()
      expect(await loading).toEqual(Array(4).fill('OK'))
      expect(valuesOf(memory)).toEqual([NEW])
      expectQuiet(manager)
    })
  })

  test('that says quiet where it is not is written over: the fence is what makes it right', async () => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      writeAll(memory, NEW)
      await stored(sequence, fence.quiet())
      sim.holdStream(stream)
      fillAll(memory, stream, OLD)
      expect(await loaded(sequence)).toEqual(Array(4).fill('OK'))
      sim.release()
      await untilIdle(stream)
      expect(valuesOf(memory)).toEqual([OLD])
    })
  })

  test('keeps slots that it gave up at a deadline until it has settled', async () => {
    await withEngine(async (manager, memory, stream) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await stored(sequence, fence.quiet())
      sim.holdStream(stream)
      fillAll(memory, stream, OLD)
      const transfer = sequence.onboard({ into: SLOTS, after: fence.stream(stream) })
      await untilQueued(sim.pending(stream) + 1)
      transfer.cancel()
      await transfer.done
      for (const use of ['onboard', 'offload'] as const) {
        errorOf('ERR_KV_SLOT_REPEATED', () =>
          use === 'onboard'
            ? sequence.onboard({ into: SLOTS, after: fence.quiet() })
            : sequence.offload({ from: SLOTS, after: fence.quiet() }),
        )
      }
      sim.release()
      await transfer.settled
      expect(await loaded(sequence)).toEqual(Array(4).fill('OK'))
    })
  })
})

describe('a fence that cannot be captured', () => {
  test('is the caller’s mistake where there is no such GPU, event or stream', async () => {
    await withEngine(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      errorOf('ERR_KV_INVALID_VALUE', () => sequence.offload({ from: SLOTS, after: fence.stream(0n, { ordinal: 9 }) }))
      errorOf('ERR_KV_INVALID_TYPE', () => sequence.offload({ from: SLOTS, after: fence.event(sim.wrap(2, 5n, 0, 0)) }))
      errorOf('ERR_KV_INVALID_TYPE', () => sequence.offload({ from: SLOTS, after: fence.event({}) }))
      // Nothing stays behind: the slots are free for the next call.
      expect(await stored(sequence, fence.quiet())).toEqual(Array(4).fill('OK'))
      expectQuiet(manager)
    })
  })

  test('makes every block a miss where its process is gone', async () => {
    await withEngine(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const transfer = sequence.offload({ from: SLOTS, after: fence.ipc(new Uint8Array(64)) })
      const result = await transfer.done
      expect(codesOf(result)).toEqual(Array(4).fill('ERR_KV_IO'))
      expect(result.message).toContain('cuIpcOpenEventHandle')
      await transfer.settled
      expect(manager.stats().counters).toMatchObject({ transferFailures: 4, abandoned: 0 })
      expectQuiet(manager)
    })
  })

  test('is refused by a manager without a GPU', async () => {
    await withManager({ device: { kind: 'host', slots: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      errorOf('ERR_KV_UNSUPPORTED', () => sequence.offload({ from: slots, after: fence.stream(0n) }))
      errorOf('ERR_KV_UNSUPPORTED', () => sequence.onboard({ after: [fence.quiet(), fence.event(5n)] }))
      slots.release()
      expectQuiet(manager)
    })
  })
})
