/** Bytes through every path of the seam, and what becomes of a block when something fails on the way. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'

import { binding, NO_SLOT } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { LIMITS } from '../../lib/native/generated.js'
import { errorOf } from '../support/expect-code.js'
import {
  ARRIVED,
  all,
  CHECKED,
  close,
  fillHost,
  hashesOf,
  holding,
  missed,
  numbers,
  openEngine,
  openMemory,
  openSlab,
  openStore,
  openTiers,
  request,
  runBatch,
  SLOTS,
  STRIDE,
  startBatch,
  store,
  type Tiers,
  temporaryFolder,
  testing,
  transfer,
  until,
} from './harness.js'

beforeAll(() => openEngine())

const blocks = numbers(40)

/** The slab's payload file, without what is before the first slot. */
function slabFile(tiers: Tiers): { path: string; bytes: Buffer } {
  const name = readdirSync(tiers.store.path).find((entry) => entry.endsWith('.slab'))
  if (name === undefined) throw new Error('no slab file')
  const path = join(tiers.store.path, name)
  return { path, bytes: readFileSync(path) }
}

describe('round trips', () => {
  test('blocks go from the device to the host and back', async () => {
    const { device, host } = await openTiers()
    const other = await openMemory('layersKvInner')
    await fillHost(host, blocks)
    expect((await transfer('memoryToMemory', host, device, blocks)).outcomes).toEqual(all(40, ARRIVED))
    expect(await holding(device, blocks)).toEqual(blocks)
    expect((await transfer('memoryToMemoryChecked', device, other, blocks)).outcomes).toEqual(all(40, ARRIVED))
    expect(await holding(other, blocks)).toEqual(blocks)
    await close(other)
  })

  test('blocks go from the host to the disk and back to the device through host slots', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    const via = await openMemory()
    const report = await transfer('slabToMemoryVia', tiers.disk, tiers.device, blocks, via)
    expect(report).toMatchObject({ code: 'OK', message: '', outcomes: all(40, ARRIVED) })
    expect(await holding(tiers.device, blocks)).toEqual(blocks)
    expect(await holding(via, blocks)).toEqual(blocks)
    // The via slots keep the checksum too: what they write elsewhere can be loaded.
    const second = await openTiers()
    await transfer('memoryToSlab', via, second.disk, blocks)
    expect((await transfer('slabCheck', second.disk, second.disk, blocks)).outcomes).toEqual(all(40, CHECKED))
    await close(via)
  })

  test('blocks go from the disk to host slots, and to the device through staging', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    const host = await openMemory()
    expect((await transfer('slabToMemory', tiers.disk, host, blocks)).outcomes).toEqual(all(40, ARRIVED))
    expect(await holding(host, blocks)).toEqual(blocks)
    expect((await transfer('slabToMemory', tiers.disk, tiers.device, blocks)).outcomes).toEqual(all(40, ARRIVED))
    expect(await holding(tiers.device, blocks)).toEqual(blocks)
    await close(host)
  })

  test('blocks survive closing and opening the store, with their records', async () => {
    const root = temporaryFolder()
    const tiers = await openTiers(root)
    await fillHost(tiers.host, [1, 2, 3])
    const written = request('memoryToSlab', tiers.host, tiers.disk, [1, 2, 3])
    const hashes = hashesOf([1, 2, 3])
    written.parents?.set(hashes.subarray(0, 32), 32)
    written.parents?.set(hashes.subarray(32, 64), 64)
    written.records?.set([0, 77, 5, 0, 1000, 1, 77, 6, 4000000000, 1001, 2, 78, 7, 0, 1002])
    expect((await runBatch((ticket) => binding.startTransfer(ticket, written))).outcomes).toEqual(all(3, ARRIVED))
    await Promise.all([close(tiers.disk), close(tiers.store.store)])

    const again = await openStore(root)
    const { contents, storage, shape, slotCount } = await openSlab(again.store)
    expect(slotCount).toBe(SLOTS)
    expect(shape).toEqual(tiers.slab.shape)
    expect(Array.from(contents.slots)).toEqual([1, 2, 3])
    expect(contents.hashes).toEqual(hashes)
    expect(Array.from(contents.parents)).toEqual([-1, 0, 1])
    expect(Array.from(contents.depths)).toEqual([0, 1, 2])
    expect(Array.from(contents.tenantTags)).toEqual([77, 77, 78])
    expect(Array.from(contents.priorities)).toEqual([5, 6, 7])
    expect(Array.from(contents.expiresAtS)).toEqual([0, 4000000000, 0])
    expect(Array.from(contents.lastUsesS)).toEqual([1000, 1001, 1002])
    expect((await transfer('slabToMemory', storage, tiers.device, [1, 2, 3])).outcomes).toEqual(all(3, ARRIVED))
    expect(await holding(tiers.device, [1, 2, 3])).toEqual([1, 2, 3])
    await close(storage)
    await close(again.store)
  })

  test('a large table comes back in arrays over memory that is not copied', async () => {
    const root = temporaryFolder()
    const opened = await openStore(root)
    const slots = 3000
    const tiny = { parts: 1, layers: 1, outer: 1, tokensPerBlock: 1, bytesPerToken: 64 } as const
    const open = () =>
      completions().call<Awaited<ReturnType<typeof openSlab>>>((ticket) =>
        binding.startOpenSlab(ticket, opened.store, 3, tiny, slots, true, false),
      )
    const slab = await open()
    const host = await completions().call<typeof slab.storage>((ticket) =>
      binding.startOpenMemory(ticket, 'contiguous', tiny, slots),
    )
    const many = numbers(slots)
    await fillHost(host, many)
    expect((await transfer('memoryToSlab', host, slab.storage, many)).outcomes).toEqual(all(slots, ARRIVED))
    await close(slab.storage)
    const again = await open()
    // Larger than the size from which memory is handed over instead of copied.
    expect(again.contents.hashes.byteLength).toBe(slots * 32)
    expect(again.contents.hashes.subarray(0, 64)).toEqual(hashesOf([0, 1]))
    expect(Array.from(again.contents.slots)).toEqual(many)
    await close(again.storage)
    await close(opened.store)
    await close(host)
  })
})

describe('what does not arrive', () => {
  test('a block whose bytes changed on disk is a checksum miss, and only that block', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    const { path, bytes } = slabFile(tiers)
    const at = bytes.length - SLOTS * STRIDE + 17 * STRIDE + 4321
    bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(path, bytes)
    const report = await transfer('slabToMemoryVia', tiers.disk, tiers.device, blocks, await openMemory())
    const expected = all(40, ARRIVED)
    expected[17] = missed('ERR_KV_CHECKSUM')
    expect(report.outcomes).toEqual(expected)
    expect(report.message).toMatch(/slot 17/)
    expect((await transfer('slabCheck', tiers.disk, tiers.disk, [16, 17])).outcomes).toEqual([
      CHECKED,
      missed('ERR_KV_CHECKSUM'),
    ])
  })

  test('a block that is asked for under another hash is a checksum miss', async () => {
    const tiers = await openTiers()
    await store(tiers, [1, 2])
    const swapped = { ...request('slabToMemoryVia', tiers.disk, tiers.device, [1, 2]), hashes: hashesOf([2, 1]) }
    const report = await runBatch((ticket) => binding.startTransfer(ticket, swapped))
    expect(report.outcomes).toEqual(all(2, missed('ERR_KV_CHECKSUM')))
  })

  test('an erased block is not found again', async () => {
    const root = temporaryFolder()
    const tiers = await openTiers(root)
    await store(tiers, [1, 2, 3])
    await completions().call((ticket) => binding.startErase(ticket, tiers.disk, new Uint32Array([1, 3])))
    await completions().call((ticket) => binding.startSync(ticket, tiers.disk))
    await close(tiers.disk)
    const { contents, storage } = await openSlab(tiers.store.store)
    expect(Array.from(contents.slots)).toEqual([2])
    await close(storage)
  })

  test('reads that fail cost their block; what can be read arrives', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    testing().setFaults({ seed: 1, failCall: 1 })
    const report = await transfer('slabToMemoryVia', tiers.disk, tiers.device, blocks)
    // The run's read failed once; every block was read again alone.
    expect(report.outcomes).toEqual(all(40, ARRIVED))
    expect(testing().faultsInjected()).toBe(1)
    testing().setFaults({ seed: 1, readError: 1 })
    const dead = await transfer('slabToMemoryVia', tiers.disk, tiers.device, blocks)
    expect(dead.outcomes).toEqual(all(40, missed('ERR_KV_IO')))
    expect(dead.message).not.toBe('')
  })

  test('a full disk fails the write and nothing else', async () => {
    const tiers = await openTiers()
    await fillHost(tiers.host, blocks)
    testing().setFaults({ seed: 1, writeNoSpace: 1 })
    const report = await transfer('memoryToSlab', tiers.host, tiers.disk, blocks)
    expect(report.outcomes).toEqual(all(40, missed('ERR_KV_NO_SPACE')))
    testing().setFaults(null)
    expect((await transfer('memoryToSlab', tiers.host, tiers.disk, blocks)).outcomes).toEqual(all(40, ARRIVED))
  })

  test('short reads and writes are no failure', async () => {
    const tiers = await openTiers()
    testing().setFaults({ seed: 5, shortRead: 0.5, shortWrite: 0.5 })
    await store(tiers, blocks)
    expect((await transfer('slabToMemory', tiers.disk, tiers.device, blocks)).outcomes).toEqual(all(40, ARRIVED))
    expect(testing().faultsInjected()).toBeGreaterThan(0)
    expect(await holding(tiers.device, blocks)).toEqual(blocks)
  })

  test.runIf(testing().verifies)('flipped, lost and misdirected bytes are never served', async () => {
    for (const fault of ['readFlip', 'writeFlip', 'lostWrite', 'misdirectedWrite'] as const) {
      const tiers = await openTiers()
      const host = await openMemory()
      testing().setFaults({ seed: 11, [fault]: 0.3 })
      await fillHost(tiers.host, blocks)
      for (let round = 0; round < 5; round++) {
        for (const block of blocks) await transfer('memoryToSlab', tiers.host, tiers.disk, [block])
        const arrived: number[] = []
        for (const block of blocks) {
          const report = await transfer('slabToMemory', tiers.disk, host, [block])
          if (report.outcomes[0]?.code === 'OK') arrived.push(block)
        }
        const good = await holding(host, blocks)
        expect(arrived.filter((block) => !good.includes(block))).toEqual([])
      }
      expect(testing().faultsInjected()).toBeGreaterThan(0)
      await close(host)
    }
  })
})

describe('ending early', () => {
  test('a cancelled transfer is done at once and settles when its I/O ends', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    testing().holdIo()
    const { ticket, done } = startBatch((t) =>
      binding.startTransfer(t, request('slabToMemoryVia', tiers.disk, tiers.device, blocks)),
    )
    await until(() => testing().heldIo() > 0)
    completions().cancel(ticket, 'ERR_KV_DEADLINE')
    const report = await done
    expect(report.code).toBe('ERR_KV_DEADLINE')
    expect(report.outcomes).toEqual(all(40, missed('ERR_KV_DEADLINE')))
    let settled = false
    void report.settled.then(() => {
      settled = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(settled).toBe(false)
    testing().releaseIo()
    await report.settled
    completions().cancel(ticket, 'ERR_KV_ABORTED')
  })

  test('closing a storage lets its running I/O end and cancels what waits', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    testing().holdIo()
    const running = startBatch((t) =>
      binding.startTransfer(t, request('slabToMemoryVia', tiers.disk, tiers.device, [1])),
    )
    await until(() => testing().heldIo() === 1)
    // Two of the four engine threads are the most that a disk may have: the first of these takes the other one.
    const others = numbers(6, 2).map((block) =>
      startBatch((t) => binding.startTransfer(t, request('slabToMemoryVia', tiers.disk, tiers.device, [block * 2]))),
    )
    await until(() => testing().heldIo() === 2)
    const closed = close(tiers.disk)
    const last = await others[5]?.done
    expect(last?.outcomes).toEqual([missed('ERR_KV_CLOSED')])
    const error = errorOf('ERR_KV_CLOSED', () =>
      binding.startTransfer(1, request('slabToMemoryVia', tiers.disk, tiers.device, [1])),
    )
    expect(error.message).toMatch(/request\.source was closed/)
    testing().releaseIo()
    expect((await running.done).outcomes).toEqual([ARRIVED])
    await closed
  })

  test('a queue that is full refuses a transfer whole', async () => {
    const tiers = await openTiers()
    await store(tiers, blocks)
    testing().holdIo()
    const many = [...new Array(1024).keys()].map((i) => i % SLOTS)
    const check = () => startBatch((t) => binding.startTransfer(t, request('slabCheck', tiers.disk, tiers.disk, many)))
    const started = [check(), check(), check(), check()]
    const refused = errorOf('ERR_KV_QUEUE_FULL', () => check())
    expect(refused.message).toMatch(/1024 blocks asked for, 4096 in flight/)
    for (const { ticket } of started) completions().cancel(ticket, 'ERR_KV_ABORTED')
    testing().releaseIo()
    for (const { done } of started) await (await done).settled
    expect((await transfer('slabCheck', tiers.disk, tiers.disk, [1])).outcomes).toEqual([CHECKED])
  })
})

test('the largest batch passes the seam in one record, a larger one is refused', async () => {
  openEngine(LIMITS.maxBlocksPerTransfer * 2)
  const tiers = await openTiers()
  await store(tiers, [3])
  const many = new Array<number>(LIMITS.maxBlocksPerTransfer).fill(3)
  const largest = { ...request('slabCheck', tiers.disk, tiers.disk, [3]), moves: new Uint32Array(many.length * 3) }
  for (let i = 0; i < many.length; i++) largest.moves.set([3, NO_SLOT, 0], i * 3)
  const report = await runBatch((ticket) => binding.startTransfer(ticket, { ...largest, hashes: hashesOf(many) }))
  expect(report.outcomes.length).toBe(LIMITS.maxBlocksPerTransfer)
  expect(report.outcomes.every(({ code }) => code === 'OK')).toBe(true)
  errorOf('ERR_KV_INVALID_VALUE', () =>
    binding.startTransfer(1, { ...largest, moves: new Uint32Array(many.length * 3 + 3) }),
  )
})
