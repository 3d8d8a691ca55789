/** Opening, borrowing and closing: who owns what, and what is refused. */
import { truncateSync, writeFileSync } from 'node:fs'
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
  testing,
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

  test('must not be able to change its size, whatever its buffer says of itself', async () => {
    const Resizable = ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer
    const Growable = SharedArrayBuffer as unknown as new (length: number, options: object) => SharedArrayBuffer
    const limits = { maxByteLength: STRIDE * 16 }
    const buffer = new Resizable(STRIDE * 8, limits)
    const lying = Object.defineProperty(new Resizable(STRIDE * 8, limits), 'resizable', { value: false })
    for (const each of [buffer, lying, new Growable(STRIDE * 8, limits)]) {
      errorOf('ERR_KV_INVALID_TYPE', () => binding.borrowMemory('contiguous', SHAPE, 8, [new Uint8Array(each)]))
    }
    const modest = Object.defineProperty(new ArrayBuffer(STRIDE * 8), 'resizable', { value: true })
    await close(binding.borrowMemory('contiguous', SHAPE, 8, [new Uint8Array(modest)]))
  })

  test('is let go when its storage is closed', async () => {
    const arrays = regions(2)
    const borrowed = binding.borrowMemory('layersKvInner', SHAPE, 2, arrays)
    await close(borrowed)
    errorOf('ERR_KV_CLOSED', () => binding.startFillPattern(1, borrowed, new Uint32Array([0]), hashesOf([0])))
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

  test('records that the disk cannot read are counted, and all others are there', async () => {
    const tiers = await openTiers()
    await store(tiers, numbers(SLOTS))
    // Of the table's two pages one fails, and so did the attempt to read both at once: with one of these seeds.
    const found = new Set<string>()
    for (let seed = 1; seed <= 100; seed++) {
      testing().setFaults({ seed, readError: 0.5 })
      const seen = await completions()
        .call<OpenedSlab>((ticket) => binding.startInspectSlab(ticket, tiers.store.path, 0))
        .catch(() => null)
      testing().setFaults(null)
      if (seen === null) continue
      const { slots, recordsUnreadable } = seen.contents
      expect(slots.length + recordsUnreadable).toBe(SLOTS)
      found.add(`${recordsUnreadable} from ${recordsUnreadable === 0 ? -1 : slots[0]}`)
      await close(seen.storage)
    }
    expect([...found].sort()).toEqual(['0 from -1', '32 from 0', '32 from 32'])
  })

  test('a group is open once', async () => {
    const tiers = await openTiers()
    await expect(openSlab(tiers.store.store)).rejects.toMatchObject({ code: 'ERR_KV_LOCKED' })
  })

  test('a cut table is looked at with the slots that it names', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    truncateSync(join(tiers.store.path, 'group-0.table'), 8192 + 5 * 128)
    const seen = await completions().call<OpenedSlab>((ticket) => binding.startInspectSlab(ticket, tiers.store.path, 0))
    expect(seen.slotCount).toBe(SLOTS)
    expect(Array.from(seen.contents.slots)).toEqual(numbers(5))
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () =>
      binding.startTransfer(1, request('slabCheck', seen.storage, seen.storage, [5])),
    )
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
