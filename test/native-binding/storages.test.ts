/** Opening, borrowing, looking through windows and closing: who owns what, and what is refused. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeAll, describe, expect, test } from 'vitest'

import { binding, type OpenedSlab } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { errorOf } from '../support/expect-code.js'
import {
  ARRIVED,
  all,
  BLOCK_BYTES,
  close,
  fillHost,
  hashesOf,
  holding,
  numbers,
  openEngine,
  openMemory,
  openSlab,
  openStore,
  openTiers,
  request,
  SHAPE,
  SLOTS,
  STRIDE,
  store,
  temporaryFolder,
  transfer,
} from './harness.js'

beforeAll(() => openEngine())

const blocks = numbers(8)

describe('borrowed memory', () => {
  const regionBytes = BLOCK_BYTES / SHAPE.layers

  function regions(slotCount: number): Uint8Array[] {
    return numbers(SHAPE.layers).map(() => new Uint8Array(regionBytes * slotCount))
  }

  test('holds the bytes that a transfer puts there', async () => {
    const host = await openMemory()
    await fillHost(host, blocks)
    const arrays = regions(8)
    const borrowed = binding.borrowMemory('layersKvInner', SHAPE, 8, arrays)
    expect((await transfer('memoryToMemory', host, borrowed, blocks)).outcomes).toEqual(all(8, ARRIVED))
    expect(await holding(borrowed, blocks)).toEqual(blocks)
    const first = arrays[0]
    if (first === undefined) throw new Error('no region')
    first[5] = (first[5] ?? 0) ^ 1
    expect(await holding(borrowed, blocks)).toEqual(numbers(7, 1))
    await close(borrowed)
    await close(host)
  })

  test('may be shared memory', async () => {
    const host = await openMemory()
    await fillHost(host, blocks)
    const shared = new Uint8Array(new SharedArrayBuffer(STRIDE * 8))
    const borrowed = binding.borrowMemory('contiguous', SHAPE, 8, [shared])
    expect((await transfer('memoryToMemory', host, borrowed, blocks)).outcomes).toEqual(all(8, ARRIVED))
    expect(await holding(borrowed, blocks)).toEqual(blocks)
    await close(borrowed)
    await close(host)
  })

  test('that was detached is refused by the next transfer', async () => {
    const host = await openMemory()
    const arrays = regions(8)
    const borrowed = binding.borrowMemory('layersKvInner', SHAPE, 8, arrays)
    structuredClone(arrays[1]?.buffer, { transfer: [arrays[1]?.buffer as ArrayBuffer] })
    errorOf('ERR_KV_DETACHED_ARRAY', () => binding.startTransfer(1, request('memoryToMemory', host, borrowed, blocks)))
    errorOf('ERR_KV_DETACHED_ARRAY', () =>
      binding.startFillPattern(1, borrowed, new Uint32Array(blocks), hashesOf(blocks)),
    )
    await close(borrowed)
    await close(host)
  })

  test('must have the regions that the layout needs', () => {
    errorOf('ERR_KV_INVALID_VALUE', () => binding.borrowMemory('layersKvInner', SHAPE, 8, regions(8).slice(1)))
    errorOf('ERR_KV_INVALID_VALUE', () => binding.borrowMemory('layersKvInner', SHAPE, 9, regions(8)))
    errorOf('ERR_KV_INVALID_TYPE', () =>
      binding.borrowMemory('layersKvInner', SHAPE, 8, [{} as Uint8Array, ...regions(8).slice(1)]),
    )
  })

  test('must not be able to change its size', () => {
    const Resizable = ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer
    const buffer = new Resizable(STRIDE * 8, { maxByteLength: STRIDE * 16 })
    errorOf('ERR_KV_INVALID_TYPE', () => binding.borrowMemory('contiguous', SHAPE, 8, [new Uint8Array(buffer)]))
  })

  test('is let go when its storage is closed', async () => {
    const arrays = regions(2)
    const borrowed = binding.borrowMemory('layersKvInner', SHAPE, 2, arrays)
    await close(borrowed)
    errorOf('ERR_KV_CLOSED', () => binding.startFillPattern(1, borrowed, new Uint32Array([0]), hashesOf([0])))
  })
})

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
})

describe('stores and slabs', () => {
  test('a store is locked until it is closed', async () => {
    const root = temporaryFolder()
    const first = await openStore(root)
    await expect(openStore(root)).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_LOCKED' })
    await close(first.store)
    const second = await openStore(root)
    expect(second.path).toBe(first.path)
    expect(second.secret).toEqual(first.secret)
    expect(second.secret.length).toBe(32)
    await close(second.store)
  })

  test('a store is closed after its slabs', async () => {
    const root = temporaryFolder()
    const opened = await openStore(root)
    const slab = await openSlab(opened.store)
    const error = errorOf('ERR_KV_INVALID_VALUE', () => binding.startClose(1, opened.store))
    expect(error.message).toMatch(/1 slabs of the store are open/)
    await Promise.all([close(slab.storage), close(opened.store)])
    await close((await openStore(root)).store)
  })

  test('a slab that could not be opened does not keep its store', async () => {
    const root = temporaryFolder()
    const opened = await openStore(root)
    const huge = { ...SHAPE, tokensPerBlock: 1 << 16 }
    await expect(
      completions().call((ticket) => binding.startOpenSlab(ticket, opened.store, 0, huge, 0x7fffffff, true, false)),
    ).rejects.toMatchObject({ code: 'ERR_KV_NO_SPACE' })
    await close(opened.store)
  })

  test('a directory that is a file is refused with its name', async () => {
    const file = join(temporaryFolder(), 'a-file')
    writeFileSync(file, '')
    const error = await openStore(file).then(
      () => null,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ name: 'KvError', code: 'ERR_KV_NOT_A_DIRECTORY' })
    expect((error as Error).message).toContain(file)
  })

  test('a failed call shows who waited for it', async () => {
    const file = join(temporaryFolder(), 'a-file')
    writeFileSync(file, '')
    async function theOneWhoWaits(): Promise<unknown> {
      return await openStore(file)
    }
    const error = (await theOneWhoWaits().catch((reason: unknown) => reason)) as Error
    expect(error.stack).toMatch(/KvError: /)
    expect(error.stack).toContain('theOneWhoWaits')
  })

  test('a slab can be looked at while its store is open', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    const seen = await completions().call<OpenedSlab>((ticket) => binding.startInspectSlab(ticket, tiers.store.path, 0))
    expect(seen.shape).toEqual(SHAPE)
    expect(seen.slotCount).toBe(SLOTS)
    expect(Array.from(seen.contents.slots)).toEqual(blocks)
    expect((await transfer('slabCheck', seen.storage, seen.storage, blocks)).outcomes).toEqual(
      all(8, { code: 'OK', stage: 0 }),
    )
    const refused = await transfer('memoryToSlab', tiers.host, seen.storage, [1])
    expect(refused.outcomes[0]?.code).not.toBe('OK')
    await close(seen.storage)
  })

  test('nothing to look at is a failure, not an empty slab', async () => {
    const folder = temporaryFolder()
    await expect(completions().call((ticket) => binding.startInspectSlab(ticket, folder, 0))).rejects.toMatchObject({
      code: 'ERR_KV_NOT_A_STORE',
    })
  })
})

test('a slab that nobody holds any more is closed', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const root = temporaryFolder()
  const opened = await openStore(root)
  const seen = await (async () => new WeakRef((await openSlab(opened.store)).storage))()
  while (seen.deref() !== undefined) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
  // Finalizers run in turns of their own; until then the store counts its slab as open.
  const closing = async (): Promise<unknown> => await close(opened.store).catch((error: unknown) => error)
  while ((await closing()) !== undefined) await new Promise((resolve) => setImmediate(resolve))
  // The lock is gone, and with it whatever the slab kept.
  await close((await openStore(root)).store)
})

test('memory that the machine has not is refused', async () => {
  const large = { ...SHAPE, tokensPerBlock: 1 << 16 }
  await expect(
    completions().call((ticket) => binding.startOpenMemory(ticket, 'contiguous', large, 0x7fffffff)),
  ).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_OUT_OF_MEMORY' })
})

test('the machine can be probed, and copies can be measured', async () => {
  const folder = temporaryFolder()
  const probe = await completions().call<Record<string, unknown>>((ticket) => binding.startProbe(ticket, folder))
  expect(Object.keys(probe)).toEqual([
    'cpu',
    'memory',
    'hugePages',
    'numa',
    'cuda',
    'cufile',
    'ioUring',
    'sha256',
    'directory',
  ])
  expect(probe.directory).toMatchObject({ path: folder, exists: true, writable: true })
  const none = await completions().call<Record<string, unknown>>((ticket) => binding.startProbe(ticket, ''))
  expect(none.directory).toBeNull()
  const speed = await completions().call<number>((ticket) => binding.startMeasureCopy(ticket, 16 << 20, 1 << 16))
  expect(speed).toBeGreaterThan(0.1)
  expect(speed).toBeLessThan(1000)
})
