/**
 * Whatever JavaScript passes, the addon throws an error with a code or does what it was asked; it never crashes. First the
 * mistakes that people make, each with its message; then random garbage for every call.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { type Binding, binding, type StorageHandle, type TransferRequest } from '../../lib/native/binding.js'
import { Completions, completions } from '../../lib/native/completions.js'
import { CODE, LAYOUT_KINDS, TRANSFER_PATHS } from '../../lib/native/generated.js'
import { errorOf } from '../support/expect-code.js'
import {
  close,
  fillHost,
  hashesOf,
  openEngine,
  openMemory,
  openTiers,
  request,
  SHAPE,
  SLOTS,
  store,
  testing,
  transfer,
} from './harness.js'

beforeAll(() => openEngine())

let host: StorageHandle
let device: StorageHandle
beforeAll(async () => {
  host = await openMemory()
  device = await openMemory('layersKvOuter')
})
afterAll(async () => {
  await close(host)
  await close(device)
})

/** Passes values that the types forbid. */
const loose = binding as unknown as Record<string, (...args: unknown[]) => unknown>

function call(name: keyof Binding, ...args: unknown[]): () => unknown {
  return () => loose[name]?.(...args)
}

/** A detached copy. */
function detached<T extends Uint8Array | Uint32Array>(array: T): T {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] })
  return array
}

describe('mistakes are named', () => {
  test.each([
    [
      'a ticket that is no number',
      'startSync',
      ['1'],
      'ERR_KV_INVALID_TYPE',
      /startSync: ticket must be a number, got a string/,
    ],
    [
      'NaN',
      'startSync',
      [Number.NaN],
      'ERR_KV_INVALID_VALUE',
      /ticket must be an integer between 0 and 4294967295, got NaN/,
    ],
    ['2^32', 'startSync', [2 ** 32], 'ERR_KV_INVALID_VALUE', /got 4294967296/],
    ['a negative number', 'startSync', [-1], 'ERR_KV_INVALID_VALUE', /got -1/],
    ['a fraction', 'startSync', [1.5], 'ERR_KV_INVALID_VALUE', /got 1\.5/],
    ['no argument at all', 'startTransfer', [], 'ERR_KV_INVALID_TYPE', /ticket must be a number, got undefined/],
    [
      'a plain object for a handle',
      'startSync',
      [1, {}],
      'ERR_KV_INVALID_TYPE',
      /storage must be a handle of a storage, got an object/,
    ],
    [
      'an unknown layout',
      'startOpenMemory',
      [1, 'diagonal'],
      'ERR_KV_INVALID_VALUE',
      /kind must be one of 'contiguous', .*got 'diagonal'/,
    ],
    [
      'a shape without layers',
      'startOpenMemory',
      [1, 'contiguous', { ...SHAPE, layers: 0 }, 1],
      'ERR_KV_INVALID_VALUE',
      /layers must be at least 1/,
    ],
    ['a path with a zero byte', 'startOpenStore', [1, 'a\0b', new Uint8Array(32)], 'ERR_KV_INVALID_VALUE', /zero byte/],
    [
      'a fingerprint of 31 bytes',
      'startOpenStore',
      [1, '/tmp', new Uint8Array(31)],
      'ERR_KV_INVALID_VALUE',
      /fingerprint must have 32 elements .*got 31/,
    ],
    ['code 0 for a cancel', 'cancel', [1, 0], 'ERR_KV_INVALID_VALUE', /code must be an integer between 1/],
    [
      'a second initialize',
      'initialize',
      [{ makeError: () => new Error(), settle: () => 0, completions: new Uint32Array(64) }],
      'ERR_KV_INVALID_VALUE',
      /initialized before/,
    ],
  ] as const)('%s', (_, name, args, code, message) => {
    expect(errorOf(code, call(name, ...args)).message).toMatch(message)
  })

  test('a ticket that is in use, or 0', async () => {
    const tiers = await openTiers()
    errorOf('ERR_KV_INVALID_VALUE', call('startProbe', 0, ''))
    testing().holdIo()
    const synced = completions().call((ticket) => {
      binding.startSync(ticket, tiers.disk)
      expect(errorOf('ERR_KV_INVALID_VALUE', call('startProbe', ticket, '')).message).toMatch(/is in use/)
    })
    testing().releaseIo()
    await synced
  })

  test('arrays of the wrong kind, length or state', async () => {
    const good = request('memoryToMemory', host, device, [0, 1])
    const bad = (change: Partial<Record<keyof TransferRequest, unknown>>) =>
      call('startTransfer', 1, { ...good, ...change })
    errorOf('ERR_KV_INVALID_TYPE', bad({ moves: [1, 2, 3] }))
    errorOf('ERR_KV_INVALID_TYPE', bad({ moves: new Int32Array(6) }))
    errorOf('ERR_KV_INVALID_VALUE', bad({ moves: new Uint32Array(7) }))
    errorOf('ERR_KV_INVALID_VALUE', bad({ hashes: new Uint8Array(63) }))
    errorOf('ERR_KV_INVALID_TYPE', bad({ hashes: null }))
    errorOf('ERR_KV_DETACHED_ARRAY', bad({ moves: detached(new Uint32Array(6)) }))
    errorOf('ERR_KV_DETACHED_ARRAY', bad({ hashes: detached(new Uint8Array(64)) }))
    errorOf('ERR_KV_INVALID_VALUE', bad({ path: 'sideways' }))
    errorOf('ERR_KV_INVALID_TYPE', bad({ onboard: 1 }))
    errorOf('ERR_KV_INVALID_TYPE', bad({ source: null }))
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', bad({ moves: new Uint32Array([0, 0, 0, 0, 0, SLOTS]) }))
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', bad({ moves: new Uint32Array([0xffffffff, 0, 0, 0, 0, 1]) }))
    errorOf('ERR_KV_SLOT_REPEATED', bad({ moves: new Uint32Array([0, 0, 5, 1, 0, 5]) }))
    errorOf('ERR_KV_SLOT_REPEATED', bad({ target: host }))
    errorOf('ERR_KV_INVALID_VALUE', bad({ path: 'slabToMemory' }))
    errorOf('ERR_KV_INVALID_VALUE', bad({ via: host }))
    expect(completions().pending).toBe(0)
    expect((await transfer('memoryToMemory', host, device, [0, 1])).code).toBe('OK')
  })

  test('a record that is missing', async () => {
    const tiers = await openTiers()
    const write = request('memoryToSlab', tiers.host, tiers.disk, [0])
    errorOf('ERR_KV_INVALID_TYPE', call('startTransfer', 1, { ...write, records: null }))
    errorOf('ERR_KV_INVALID_TYPE', call('startTransfer', 1, { ...write, parents: null }))
    errorOf('ERR_KV_INVALID_VALUE', call('startTransfer', 1, { ...write, records: new Uint32Array(4) }))
    errorOf('ERR_KV_INVALID_TYPE', call('startOpenSlab', 1, tiers.disk, 0, SHAPE, 1, true, false))
    errorOf('ERR_KV_INVALID_TYPE', call('startSync', 1, tiers.store.store))
  })

  test('a handle that only looks like one', () => {
    const clone = Object.create(host as object)
    const proxy = new Proxy(host as object, {})
    for (const fake of [clone, proxy, { ...host }, Object.setPrototypeOf({}, host as object)]) {
      errorOf('ERR_KV_INVALID_TYPE', call('startSync', 1, fake))
      errorOf('ERR_KV_INVALID_TYPE', call('startClose', 1, fake))
    }
  })

  test('a closed handle', async () => {
    const memory = await openMemory()
    await close(memory)
    for (const name of ['startSync', 'startClose', 'startErase', 'startSeal'] as const) {
      errorOf('ERR_KV_CLOSED', call(name, 1, memory))
    }
    errorOf('ERR_KV_CLOSED', call('openWindow', memory, 0))
  })

  test('a getter that changes what was read before it', async () => {
    const moves = new Uint32Array([0, 0, 0])
    const tricky = {
      ...request('memoryToMemory', host, device, [0]),
      moves,
      get records(): null {
        detached(moves)
        return null
      },
    }
    errorOf('ERR_KV_DETACHED_ARRAY', call('startTransfer', 1, tricky))
  })

  test('a failure inside has a code too', () => {
    errorOf('ERR_KV_INVALID_VALUE', () => testing().failWith('length'))
    errorOf('ERR_KV_OUT_OF_MEMORY', () => testing().failWith('memory'))
    const error = errorOf('ERR_KV_INTERNAL', () => testing().failWith('api'))
    expect(error.message).toBe('failWith: A number was expected')
  })

  test('a getter that throws keeps its own error', () => {
    const tricky = {
      get path(): string {
        throw new RangeError('mine')
      },
    }
    expect(call('startTransfer', 1, tricky)).toThrow(RangeError)
  })
})

describe('random garbage', () => {
  const numbers = fc.oneof(
    fc.constantFrom(Number.NaN, -0, -1, 0.5, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, Number.POSITIVE_INFINITY, 1e300),
    fc.integer({ min: 0, max: 70 }),
  )
  const arrays = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.uint32Array({ maxLength: 40 }),
    fc.uint32Array({ maxLength: 40, max: 70 }),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.int32Array({ maxLength: 10 }),
    fc.float64Array({ maxLength: 10 }),
    fc.uint8Array({ maxLength: 64 }).map((array) => detached(array)),
    fc.nat(8).map((length) => new Uint32Array(new SharedArrayBuffer(length * 4))),
    fc.nat(8).map((length) => hashesOf([...new Array(length).keys()])),
  )
  const shapes = fc.oneof(
    fc.constant(SHAPE),
    fc.record({ parts: numbers, layers: numbers, outer: numbers, tokensPerBlock: numbers, bytesPerToken: numbers }),
  )
  const handles = fc.constantFrom('host', 'device', 'disk', 'store', 'image').map((name) => ({ handle: name }))
  const values = fc.oneof(
    numbers,
    arrays,
    handles,
    shapes,
    fc.constantFrom(...TRANSFER_PATHS, ...LAYOUT_KINDS, 'llama', '', '/proc/nowhere', '\ud800'),
    fc.array(fc.constantFrom('attention', 'latent', 'recurrent'), { maxLength: 9 }),
    fc.array(fc.record({ storage: handles, firstBlock: numbers, slots: arrays, hashes: arrays }), { maxLength: 3 }),
    fc.constantFrom(null, undefined, true, false, 1n, Symbol('x'), {}, [], () => 1),
    fc.array(arrays, { maxLength: 4 }),
    fc.record({
      path: fc.constantFrom(...TRANSFER_PATHS),
      onboard: fc.boolean(),
      source: handles,
      via: fc.oneof(handles, fc.constant(null)),
      target: handles,
      moves: fc.nat(6).chain((blocks) => fc.uint32Array({ minLength: blocks * 3, maxLength: blocks * 3, max: 70 })),
      hashes: arrays,
      parents: fc.oneof(arrays, fc.constant(null)),
      records: fc.oneof(arrays, fc.constant(null)),
    }),
  )

  const names = Object.keys(binding).filter(
    // Faults are the test's own; memory of a random size may be all that the machine has.
    (name) => !['testing', 'startOpenMemory', 'startMeasureCopy', 'initialize'].includes(name),
  )

  test('never crashes a call: it throws with a code, or it works', async () => {
    const tiers = await openTiers()
    await fillHost(tiers.host, [0, 1, 2])
    await store(tiers, [0, 1, 2])
    const real: Record<string, unknown> = {
      host: tiers.host,
      device: tiers.device,
      disk: tiers.disk,
      store: tiers.store.store,
      image: binding.openImage(),
    }
    // Handles cannot be shrunk or printed, so that they stand in for their names until the call.
    const resolve = (value: unknown): unknown => {
      if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
      if ('handle' in value) return real[value.handle as string]
      if (Array.isArray(value)) return value.map(resolve)
      if ('firstBlock' in value && 'storage' in value) return { ...value, storage: resolve(value.storage) }
      if ('source' in value && 'target' in value && 'via' in value) {
        return { ...value, source: resolve(value.source), target: resolve(value.target), via: resolve(value.via) }
      }
      return value
    }
    let threw = 0
    let worked = 0
    const run = (name: string, args: readonly unknown[]): void => {
      // Tickets are right half of the time, or most calls would end there.
      const started = name.startsWith('start')
      const attempt = (ticket: number): void => {
        loose[name]?.(...(started ? [ticket, ...args.map(resolve)] : args.map(resolve)))
      }
      try {
        if (started) completions().batch(attempt, { onDone: () => undefined, onSettled: () => undefined })
        else attempt(0)
        worked++
      } catch (error) {
        threw++
        if (!(error instanceof Error)) throw new Error(`${name} threw ${String(error)}`)
        const code = 'code' in error ? String(error.code) : ''
        if (!(code in CODE)) throw error
      }
    }
    const property = fc.asyncProperty(
      fc.constantFrom(...names),
      fc.array(values, { maxLength: 6 }),
      async (name, args) => {
        if (name === 'startClose' || name === 'startCloseImage') return
        run(name, args)
        if (completions().pending > 64) {
          while (completions().pending > 0) await new Promise((done) => setImmediate(done))
        }
      },
    )
    await fc.assert(property, { numRuns: 3000, endOnFailure: true })
    while (completions().pending > 0) await new Promise((done) => setImmediate(done))
    expect(threw).toBeGreaterThan(100)
    expect(worked).toBeGreaterThan(10)
    // The addon is whole: bytes still go where they should.
    expect((await transfer('memoryToMemory', tiers.host, tiers.device, [7])).outcomes).toEqual([
      { code: 'OK', stage: 2 },
    ])
  })
})

test('the binding is initialized once', () => {
  errorOf('ERR_KV_INVALID_VALUE', () => new Completions(binding))
})
