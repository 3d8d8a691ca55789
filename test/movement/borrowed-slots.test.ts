import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import { BorrowedSlots, isDetached } from '../../lib/movement/borrowed-slots.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { Sequence, SlotsByGroup } from '../../lib/movement/sequence.ts'
import { binding, NO_SLOT } from '../../lib/native/binding.ts'
import { LAYOUT_KINDS } from '../../lib/native/generated.ts'
import { BorrowedMemory, bytesOf } from '../support/borrowed.ts'
import { deferred } from '../support/deferred.ts'
import { THREADS } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled, testing, untilHeld, withHeldIo } from '../support/io.ts'
import { diskStrideOf, LAYOUTS, strideOf, WINDOWED } from '../support/layouts.ts'
import { TEST_LAYOUT, TEST_STRIDE, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'

afterEach(() => vi.restoreAllMocks())

const SLOTS = 16

function optionsFor(memory: BorrowedMemory, layout: ModelLayout, directory: string | null) {
  return testOptions(null, {
    layout,
    device: memory.device,
    host: { capacityBytes: 16 * strideOf(layout) },
    engine: { threads: THREADS },
    ...(directory === null ? {} : { disk: { directory, capacityBytes: 32 * diskStrideOf(layout) } }),
  })
}

/** A manager over an engine's memory, closed after `run`. */
async function withBorrowed(
  run: (manager: BlockManager, memory: BorrowedMemory) => Promise<void>,
  layout: ModelLayout = TEST_LAYOUT,
): Promise<void> {
  await withDirectory(async (directory) => {
    const memory = new BorrowedMemory(layout, 'layersKvInner', SLOTS)
    const manager = await BlockManager.open(optionsFor(memory, layout, directory))
    try {
      await run(manager, memory)
    } finally {
      await manager.close({ flush: false })
    }
  })
}

function slots(...numbers: number[]): Uint32Array {
  return Uint32Array.from(numbers)
}

async function offload(sequence: Sequence, from: SlotsByGroup, until: 'host' | 'disk' = 'host') {
  const transfer = sequence.offload({ from, after: fence.quiet(), until })
  const result = await transfer.done
  await transfer.settled
  return result
}

async function onboard(sequence: Sequence, into: SlotsByGroup) {
  const transfer = sequence.onboard({ into, after: fence.quiet() })
  const result = await transfer.done
  await transfer.settled
  return result
}

describe('borrowed memory', () => {
  const cases = LAYOUTS.flatMap(([name, layout]) => LAYOUT_KINDS.map((kind) => [name, kind, layout] as const))
  test.each(cases)(
    'with %s, of kind %s, gets back each byte at the place that another slot has',
    async (_, kind, layout) => {
      await withDirectory(async (directory) => {
        const memory = new BorrowedMemory(layout, kind, SLOTS)
        const manager = await BlockManager.open(optionsFor(memory, layout, directory))
        const prompt = tokens(1, 20)
        const named = (numbers: readonly number[]) =>
          Object.fromEntries(layout.groups.map((group) => [group.name, Uint32Array.from(numbers)]))
        const source = [3, 0, 14, 7, 9]
        for (const [group, { name }] of layout.groups.entries()) {
          for (const [i, slot] of source.entries()) {
            memory.write(name, slot, bytesOf(group * 100 + i, memory.blockBytes(name)))
          }
        }
        const stored = await offload(manager.sequence(prompt, { tenant: 'a' }), named(source), 'disk')
        expect(codesOf(stored)).toEqual(Array(5).fill('OK'))
        expect(tiersOf(stored)).toEqual(Array(5).fill('disk'))

        const expectBytes = (target: readonly number[], where: string): void => {
          for (const [group, { name, kind: attention, windowTokens }] of layout.groups.entries()) {
            const inWindow = attention === 'recurrent' ? 4 : Math.floor((20 - (windowTokens ?? 21) + 1) / 4)
            const first = Math.max(0, inWindow)
            for (const [i, slot] of target.entries()) {
              const size = memory.blockBytes(name)
              const expected = i < first ? new Uint8Array(size).fill(0xee) : bytesOf(group * 100 + i, size)
              expect(memory.read(name, slot), `${where}: block ${i} of ${name}`).toEqual(expected)
            }
            // Slots that were not named are as they were.
            expect(memory.read(name, 6)).toEqual(new Uint8Array(memory.blockBytes(name)).fill(0xee))
          }
        }
        memory.fill(0xee)
        const fromHost = await onboard(manager.sequence(prompt, { tenant: 'a' }), named([15, 2, 8, 1, 10]))
        expect(fromHost).toMatchObject({ tokens: 20, arrived: 5, pin: null })
        expectBytes([15, 2, 8, 1, 10], 'from host memory')
        expectQuiet(manager)
        await manager.close()

        const next = await BlockManager.open(optionsFor(memory, layout, directory))
        memory.fill(0xee)
        const fromDisk = await onboard(next.sequence(prompt, { tenant: 'a' }), named([4, 5, 11, 12, 13]))
        expect(fromDisk.tokens).toBe(20)
        expect(tiersOf(fromDisk)).toContain('disk')
        expectBytes([4, 5, 11, 12, 13], 'from disk')
        expectQuiet(next)
        await next.close()
      })
    },
  )

  test('is read and written by the host windows in canonical order', async () => {
    await withBorrowed(async (manager, memory) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      for (const i of [0, 1]) reservation.window(i).set(bytesOf(40 + i, TEST_STRIDE))
      await reservation.publish()
      expect((await onboard(sequence, slots(5, 2))).tokens).toBe(8)
      expect(memory.read('full', 5)).toEqual(bytesOf(40, TEST_STRIDE))
      expect(memory.read('full', 2)).toEqual(bytesOf(41, TEST_STRIDE))
      const other = manager.sequence(tokens(2, 4), { tenant: 'a' })
      await offload(other, slots(2))
      const reading = await manager.host.load(other)
      expect(reading.window(0)).toEqual(bytesOf(41, TEST_STRIDE))
      reading.release()
    })
  })

  test('is filled from host memory by many requests for one prefix, none of which waits for another', async () => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await offload(sequence, slots(0, 1, 2, 3))
      const started = vi.spyOn(binding, 'startTransfer')
      const transfers = [4, 8, 12].map((first) =>
        sequence.onboard({ into: slots(first, first + 1, first + 2, first + 3), after: fence.quiet() }),
      )
      // Nothing that native code tells is heard before the event loop has its turn.
      for (let i = 0; i < 100; i++) await Promise.resolve()
      expect(started).toHaveBeenCalledTimes(3)
      for (const transfer of transfers) expect((await transfer.done).tokens).toBe(16)
      await Promise.all(transfers.map((transfer) => transfer.settled))
      expectQuiet(manager)
    })
  })

  test('filled through staging buffers and through host slots at a time keeps the two apart', async () => {
    await withDirectory(async (directory) => {
      const memory = new BorrowedMemory(TEST_LAYOUT, 'layersKvInner', SLOTS)
      const options = optionsFor(memory, TEST_LAYOUT, directory)
      const before = await BlockManager.open(options)
      for (let i = 0; i < 4; i++) memory.write('full', i, bytesOf(i, TEST_STRIDE))
      await offload(before.sequence(tokens(1, 16), { tenant: 'a' }), slots(0, 1, 2, 3), 'disk')
      await before.close()
      const manager = await BlockManager.open(options)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      for (const ends of ['aborted', 'done', 'aborted', 'done', 'aborted', 'aborted', 'aborted']) {
        memory.fill(0xee)
        const taken = await manager.host.reserve(manager.sequence(tokens(9, 64), { tenant: 'a' }))
        expect(manager.stats().tiers.host.free).toBe(0)
        await withHeldIo(async () => {
          const staged = sequence.onboard({ into: slots(4, 5, 6, 7), after: fence.quiet() })
          await untilHeld()
          taken.release()
          const other = sequence.onboard({ into: slots(8, 9, 10, 11), after: fence.quiet() })
          await untilHeld(2)
          expect(manager.stats().tiers.host.filling).toBe(4)
          if (ends === 'aborted') staged.cancel()
          testing.releaseIo()
          expect((await staged.done).tokens).toBe(ends === 'aborted' ? 0 : 16)
          await staged.settled
          expect((await other.done).tokens).toBe(16)
          await other.settled
        })
        for (let i = 0; i < 4; i++) expect(memory.read('full', 8 + i)).toEqual(bytesOf(i, TEST_STRIDE))
        expect(manager.stats().tiers.host.held).toBe(4)
        const reading = await manager.host.load(sequence)
        for (let i = 0; i < 4; i++) expect(Buffer.from(reading.window(i)).equals(bytesOf(i, TEST_STRIDE))).toBe(true)
        reading.release()
        // Only the disk has them when the next round begins.
        ;(await manager.host.reserve(manager.sequence(tokens(8, 64), { tenant: 'a' }))).release()
        expectQuiet(manager)
      }
      await manager.close()
    })
  })

  test('onboards as many blocks as slots are named', async () => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 24), { tenant: 'a' })
      await offload(sequence, slots(0, 1, 2, 3, 4, 5))
      expect(await onboard(sequence, slots(9, 8))).toMatchObject({ blockCount: 2, tokens: 8 })
      expect(await onboard(sequence, slots())).toMatchObject({ blockCount: 0, tokens: 0 })
      expect(await onboard(sequence, slots(6, 7, 8, 9, 10, 11, 12, 13))).toMatchObject({ blockCount: 6, tokens: 24 })
      expectQuiet(manager)
    })
  })

  test('stores a block again whose time was over', async () => {
    await withBorrowed(async (manager) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      await offload(manager.sequence(tokens(1, 8), { tenant: 'a', ttlMs: 1_000 }), slots(0, 1), 'disk')
      clock.mockReturnValue(start + 60_000)
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      expect(sequence.match()).toMatchObject({ tokens: 0, stoppedBy: 'expired' })
      expect(tiersOf(await offload(sequence, slots(2, 3)))).toEqual(['host', 'host'])
      expect(sequence.match()).toMatchObject({ tokens: 8 })
      expectQuiet(manager)
    })
  })
})

describe('slots that the engine names', () => {
  test.each([
    ['are no Uint32Array', 'ERR_KV_INVALID_TYPE', [0, 1]],
    ['are an Int32Array', 'ERR_KV_INVALID_TYPE', new Int32Array(2)],
    ['are left out', 'ERR_KV_INVALID_TYPE', undefined],
    ['are null', 'ERR_KV_INVALID_TYPE', null],
    ['are out of range', 'ERR_KV_SLOT_OUT_OF_RANGE', Uint32Array.of(0, SLOTS)],
    ['are named twice', 'ERR_KV_SLOT_REPEATED', Uint32Array.of(4, 4)],
  ])('are refused for an onboard when they %s', async (_, code, into) => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      await offload(sequence, slots(0, 1))
      errorOf(code as 'ERR_KV_INVALID_TYPE', () => sequence.onboard({ into: into as never, after: fence.quiet() }))
      // Nothing of a refused call stays in use.
      expect((await onboard(sequence, slots(0, 4))).tokens).toBe(8)
      expectQuiet(manager)
    })
  })

  test.each([
    ['are no Uint32Array', 'ERR_KV_INVALID_TYPE', 'full'],
    ['are left out', 'ERR_KV_INVALID_TYPE', undefined],
    ['are out of range', 'ERR_KV_SLOT_OUT_OF_RANGE', Uint32Array.of(SLOTS, 0)],
    ['are named twice', 'ERR_KV_SLOT_REPEATED', Uint32Array.of(4, 4)],
    ['are none', 'ERR_KV_NO_WHOLE_BLOCK', new Uint32Array()],
    ['are more than the sequence has blocks', 'ERR_KV_NO_WHOLE_BLOCK', Uint32Array.of(0, 1, 2)],
  ])('are refused for an offload when they %s', async (_, code, from) => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 11), { tenant: 'a' })
      errorOf(code as 'ERR_KV_INVALID_TYPE', () => sequence.offload({ from: from as never, after: fence.quiet() }))
      expect((await offload(sequence, slots(0, 4))).tokens).toBe(8)
      expectQuiet(manager)
    })
  })

  test('are refused when their array was detached, and are copied before anything waits', async () => {
    await withBorrowed(async (manager, memory) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      for (const [i, slot] of [0, 1].entries()) memory.write('full', slot, bytesOf(i, TEST_STRIDE))
      const detached = slots(0, 1)
      structuredClone(detached.buffer, { transfer: [detached.buffer as ArrayBuffer] })
      errorOf('ERR_KV_DETACHED_ARRAY', () => sequence.offload({ from: detached, after: fence.quiet() }))
      errorOf('ERR_KV_DETACHED_ARRAY', () => sequence.onboard({ into: detached, after: fence.quiet() }))
      const from = slots(0, 1)
      const transfer = sequence.offload({ from, after: fence.quiet() })
      from.fill(9)
      await transfer.settled
      const into = slots(2, 3)
      const back = sequence.onboard({ into, after: fence.quiet() })
      into.fill(9)
      await back.settled
      expect(memory.read('full', 2)).toEqual(bytesOf(0, TEST_STRIDE))
      expect(memory.read('full', 3)).toEqual(bytesOf(1, TEST_STRIDE))
    })
  })

  test('must be named for each layer group, and as many for each', async () => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const after = fence.quiet()
      errorOf('ERR_KV_INVALID_TYPE', () => sequence.offload({ from: slots(0, 1), after }))
      errorOf('ERR_KV_INVALID_TYPE', () => sequence.offload({ from: { full: slots(0, 1) } as never, after }))
      errorOf('ERR_KV_INVALID_VALUE', () => sequence.onboard({ into: { full: slots(0), sliding: slots(0, 1) }, after }))
      expect((await offload(sequence, { full: slots(0, 1), sliding: slots(0, 1) })).tokens).toBe(8)
      expectQuiet(manager)
    }, WINDOWED)
  })

  test('may be missing where the engine no longer has a block: held blocks need none, others are misses', async () => {
    await withBorrowed(async (manager, memory) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      for (let i = 0; i < 4; i++) memory.write('full', i, bytesOf(i, TEST_STRIDE))
      await offload(manager.sequence(tokens(1, 8), { tenant: 'a' }), slots(0, 1))
      const result = await offload(sequence, slots(NO_SLOT, NO_SLOT, 2, NO_SLOT))
      expect(codesOf(result)).toEqual(['OK', 'OK', 'OK', 'ERR_KV_SLOT_OUT_OF_RANGE'])
      expect(result.tokens).toBe(12)
      expect(await onboard(sequence, slots(7, 8, 9, 10))).toMatchObject({ tokens: 12 })
      expect(memory.read('full', 9)).toEqual(bytesOf(2, TEST_STRIDE))
      expectQuiet(manager)
    })
  })

  test('must be named for every block of full attention that is onboarded, and only inside the window of others', async () => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await offload(sequence, { full: slots(0, 1, 2, 3), sliding: slots(NO_SLOT, NO_SLOT, 2, 3) })
      const after = fence.quiet()
      errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () =>
        sequence.onboard({ into: { full: slots(0, NO_SLOT, 2, 3), sliding: slots(0, 1, 2, 3) }, after }),
      )
      const result = await onboard(sequence, { full: slots(0, 1, 2, 3), sliding: slots(NO_SLOT, NO_SLOT, 6, 7) })
      expect(result).toMatchObject({ tokens: 16, arrived: 4 })
      const hole = await onboard(sequence, { full: slots(0, 1, 2, 3), sliding: slots(NO_SLOT, NO_SLOT, NO_SLOT, 7) })
      expect(codesOf(hole)[2]).toBe('ERR_KV_SLOT_OUT_OF_RANGE')
      // The first two blocks came, but not the window that a token behind them sees.
      expect(hole.tokens).toBe(0)
      expectQuiet(manager)
    }, WINDOWED)
  })

  test('stay the transfer’s until it has settled, also when it ended early', async () => {
    await withBorrowed(async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      await offload(sequence, slots(0, 1), 'disk')
      // Other blocks push these out of host memory.
      for (let seed = 2; seed <= 3; seed++) {
        await offload(manager.sequence(tokens(seed, 32), { tenant: 'a' }), slots(0, 1, 2, 3, 4, 5, 6, 7))
      }
      expect(sequence.match().byTier.disk).toBe(8)
      await withHeldIo(async () => {
        const late = sequence.onboard({ into: slots(2, 3), after: fence.quiet() })
        await untilHeld()
        late.cancel()
        expect(codesOf(await late.done)).toEqual(Array(2).fill('ERR_KV_ABORTED'))
        const after = fence.quiet()
        const other = manager.sequence(tokens(2, 8), { tenant: 'a' })
        const error = errorOf('ERR_KV_SLOT_REPEATED', () => other.onboard({ into: slots(9, 3), after }))
        expect(error.message).toContain('settled')
        errorOf('ERR_KV_SLOT_REPEATED', () => other.offload({ from: slots(2, 9), after }))
        expect(await isSettled(late.settled)).toBe(false)
        testing.releaseIo()
        await late.settled
        expect((await onboard(other, slots(9, 3))).tokens).toBe(8)
      })
      expectQuiet(manager)
    })
  })

  test('may be read by several transfers at a time, but not overwritten meanwhile', async () => {
    await withBorrowed(async (manager) => {
      const quiet = deferred()
      const after = fence.promise(quiet.promise)
      const one = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const two = manager.sequence(tokens(1, 8), { tenant: 'b' })
      const transfers = [one.offload({ from: slots(0, 1), after }), two.offload({ from: slots(0, 1), after })]
      errorOf('ERR_KV_SLOT_REPEATED', () => one.onboard({ into: slots(1), after: fence.quiet() }))
      quiet.resolve()
      await Promise.all(transfers.map((each) => each.settled))
      expect((await onboard(one, slots(1))).tokens).toBe(4)
      expectQuiet(manager)
    })
  })
})

describe('the marks of slots', () => {
  test('are all taken or none, and give back once', () => {
    const marks = new BorrowedSlots(4, 'full')
    const first = marks.take(slots(0, 1), true)
    errorOf('ERR_KV_SLOT_REPEATED', () => marks.take(slots(2, 3, 1), false))
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () => marks.take(slots(2, 4), true))
    const second = marks.take(slots(2, 3), true)
    first()
    first()
    const readers = [marks.take(slots(0), false), marks.take(slots(0), false)]
    errorOf('ERR_KV_SLOT_REPEATED', () => marks.take(slots(0), true))
    readers[0]?.()
    readers[0]?.()
    errorOf('ERR_KV_SLOT_REPEATED', () => marks.take(slots(0), true))
    readers[1]?.()
    second()
    marks.take(slots(0, 1, 2, 3), true)()
  })

  test('tell a slot that is named twice from one that others read', () => {
    const marks = new BorrowedSlots(4, 'full')
    const reading = marks.take(slots(0, 1, 2, 3), false)
    expect(errorOf('ERR_KV_SLOT_REPEATED', () => marks.take(slots(0, 2, 0), false)).message).toContain('twice')
    expect(errorOf('ERR_KV_SLOT_REPEATED', () => marks.take(slots(0), true)).message).toContain('in use')
    marks.take(slots(3, 2, 1, 0), false)()
    reading()
    marks.take(slots(0, 1, 2, 3), true)()
  })

  test('a detached array is told from an empty one', () => {
    const array = slots(1)
    expect([isDetached(array), isDetached(slots()), isDetached(array.subarray(1))]).toEqual([false, false, false])
    const { buffer } = array
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] })
    expect(isDetached(array)).toBe(true)
  })
})
