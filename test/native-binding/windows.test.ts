/** Windows: who sees a slot, when it is detached, and what happens when JavaScript takes its memory away. */
import { beforeAll, describe, expect, test } from 'vitest'

import { binding } from '../../lib/native/binding.js'
import { errorOf } from '../support/expect-code.js'
import { CANNOT_TAKE, collect, collectUntil, detachByEngine, takeMemory } from '../support/garbage.js'
import {
  BLOCK_BYTES,
  close,
  fillHost,
  holding,
  openEngine,
  openMemory,
  SHAPE,
  SLOTS,
  STRIDE,
  until,
} from './harness.js'

beforeAll(() => openEngine())

describe('windows', () => {
  test('show a slot without a copy', async () => {
    const host = await openMemory()
    await fillHost(host, [2])
    const window = binding.openWindow(host, 2)
    expect(window.byteLength).toBe(BLOCK_BYTES)
    const bytes = new Uint8Array(window)
    bytes[100] = (bytes[100] ?? 0) ^ 0x10
    expect(await holding(host, [2])).toEqual([])
    bytes[100] = (bytes[100] ?? 0) ^ 0x10
    expect(await holding(host, [2])).toEqual([2])
    binding.closeWindow(window)
    expect(window.byteLength).toBe(0)
    expect(bytes.length).toBe(0)
    errorOf('ERR_KV_RELEASED', () => binding.closeWindow(window))
    await close(host)
  })

  test('are one a slot at a time', async () => {
    const host = await openMemory()
    const window = binding.openWindow(host, 2)
    errorOf('ERR_KV_INVALID_VALUE', () => binding.openWindow(host, 2))
    binding.closeWindow(binding.openWindow(host, 3))
    binding.closeWindow(window)
    binding.closeWindow(binding.openWindow(host, 2))
    await close(host)
  })

  test('are detached when their storage is closed', async () => {
    const host = await openMemory()
    const windows = [binding.openWindow(host, 0), binding.openWindow(host, 1)]
    await close(host)
    expect(windows.map((window) => window.byteLength)).toEqual([0, 0])
  })

  test('need contiguous memory and a slot of it', async () => {
    const device = await openMemory('layersKvOuter')
    errorOf('ERR_KV_INVALID_VALUE', () => binding.openWindow(device, 0))
    const host = await openMemory()
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () => binding.openWindow(host, SLOTS))
    await close(device)
    await close(host)
  })

  test('never detach the array that a storage borrows', async () => {
    const array = new Uint8Array(STRIDE * 2)
    const borrowed = binding.borrowMemory('contiguous', SHAPE, 2, [array])
    const window = binding.openWindow(borrowed, 0)
    errorOf('ERR_KV_RELEASED', () => binding.closeWindow(array.buffer))
    expect(array.length).toBe(STRIDE * 2)
    binding.closeWindow(window)
    expect(array.length).toBe(STRIDE * 2)
    await close(borrowed)
  })

  test('are of their storage: two that borrow the same memory have one each', async () => {
    const array = new Uint8Array(STRIDE * 2)
    const storages = [0, 1].map(() => binding.borrowMemory('contiguous', SHAPE, 2, [array]))
    const windows = storages.map((storage) => binding.openWindow(storage, 1))
    for (const window of windows) binding.closeWindow(window)
    for (const storage of storages) await close(storage)
  })

  test('cannot be opened on borrowed memory that was detached', async () => {
    const array = new Uint8Array(STRIDE * 2)
    const borrowed = binding.borrowMemory('contiguous', SHAPE, 2, [array])
    structuredClone(array.buffer, { transfer: [array.buffer] })
    errorOf('ERR_KV_DETACHED_ARRAY', () => binding.openWindow(borrowed, 0))
    await close(borrowed)
  })

  test('that were collected do not stand in the way of new ones', async () => {
    const array = new Uint8Array(STRIDE * 2)
    const borrowed = binding.borrowMemory('contiguous', SHAPE, 2, [array])
    const seen = (() => new WeakRef(binding.openWindow(borrowed, 0)))()
    while (seen.deref() !== undefined) {
      await new Promise((resolve) => setImmediate(resolve))
      collect()
    }
    // Finalizers run in turns of their own: none has run yet.
    errorOf('ERR_KV_RELEASED', () => binding.closeWindow(array.buffer))
    const window = binding.openWindow(borrowed, 0)
    new Uint8Array(window)[0] = 7
    await new Promise((resolve) => setImmediate(resolve))
    // The first one's finalizer has not taken this one for its own.
    errorOf('ERR_KV_INVALID_VALUE', () => binding.openWindow(borrowed, 0))
    binding.closeWindow(window)
    expect(array[0]).toBe(7)
    await close(borrowed)
  })

  test('that were collected do not keep their storage open', async () => {
    const host = await openMemory()
    const seen = (() => new WeakRef(binding.openWindow(host, 0)))()
    while (seen.deref() !== undefined) {
      await new Promise((resolve) => setImmediate(resolve))
      collect()
    }
    await close(host)
  })
})

describe('a window that something else detached', () => {
  test('cannot be closed, and its slot is taken until its memory is free', async () => {
    const host = await openMemory()
    const window = binding.openWindow(host, 2)
    detachByEngine(window)
    for (let i = 0; i < 2; i++) errorOf('ERR_KV_DETACHED_ARRAY', () => binding.closeWindow(window))
    const error = errorOf('ERR_KV_INVALID_VALUE', () => binding.openWindow(host, 2))
    expect(error.message).toContain('transferred away')
    let next: ArrayBuffer | null = null
    await until(() => {
      try {
        next = binding.openWindow(host, 2)
      } catch {}
      return next !== null
    })
    errorOf('ERR_KV_RELEASED', () => binding.closeWindow(window))
    binding.closeWindow(next as unknown as ArrayBuffer)
    await close(host)
  })

  test('does not keep its storage from being closed', async () => {
    const host = await openMemory()
    const windows = [binding.openWindow(host, 2), binding.openWindow(host, 3)]
    for (const window of windows) detachByEngine(window)
    errorOf('ERR_KV_DETACHED_ARRAY', () => binding.closeWindow(windows[0] as ArrayBuffer))
    await close(host)
  })
})

// The title says why where it is skipped.
describe.skipIf(CANNOT_TAKE !== '')(`memory that a window was transferred to ${CANNOT_TAKE}`.trim(), () => {
  test('stays when its storage is closed, and goes when it is collected', async () => {
    const host = await openMemory('contiguous', 10_000)
    await fillHost(host, [2])
    let rss = 0
    // In a function of its own, so that nothing of it is left on the stack.
    const whileTaken = async (): Promise<void> => {
      const windows = [2, 3, 4].map((slot) => binding.openWindow(host, slot))
      const taken = windows.map((window) => new Uint8Array(takeMemory(window)))
      errorOf('ERR_KV_DETACHED_ARRAY', () => binding.closeWindow(windows[1] as ArrayBuffer))
      errorOf('ERR_KV_INVALID_VALUE', () => binding.openWindow(host, 3))
      const before = taken.map((bytes) => Buffer.from(bytes))
      rss = process.memoryUsage().rss
      await close(host)
      for (const [i, bytes] of taken.entries()) {
        expect(Buffer.compare(bytes, before[i] as Buffer)).toBe(0)
        bytes.fill(9)
      }
    }
    await whileTaken()
    await collectUntil(() => process.memoryUsage().rss < rss - 5_000 * STRIDE)
  })

  test('that a storage borrows keeps the array', async () => {
    const borrowed = binding.borrowMemory('contiguous', SHAPE, 2, [new Uint8Array(STRIDE * 2)])
    const taken = new Uint8Array(takeMemory(binding.openWindow(borrowed, 0)))
    await close(borrowed)
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setImmediate(resolve))
      collect()
    }
    taken.fill(5)
    expect(taken.every((byte) => byte === 5)).toBe(true)
  })
})
