/** What every storage of the catalog refuses, by its documented code, and that nothing of it was done then. */
import { describe, expect, onTestFinished, test } from 'vitest'

import { binding, RECORD_WORDS, type TransferRequest } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { type ErrorCode, TRANSFER_PATHS } from '../../lib/native/generated.ts'
import { hashesOf, openEngine, temporaryFolder } from '../native-binding/harness.ts'
import { errorOf } from '../support/expect-code.ts'
import { Bench } from '../support/storages/bench.ts'
import { STORAGES } from '../support/storages/catalog.ts'
import { HostSlots } from '../support/storages/host-slots.ts'
import { nameOf, type Way } from '../support/storages/kind.ts'
import { LentMemory } from '../support/storages/lent-memory.ts'
import { FULL } from '../support/storages/shapes.ts'

const FIRST = { slot: 2, block: 1 }
const SECOND = { slot: 5, block: 2 }

type Change = { readonly [key in keyof TransferRequest]?: unknown }
type Refusal = readonly [string, ErrorCode, Change]

/** Starts a call that must throw; types are what is wrong with some. */
function refused(code: ErrorCode, request: object): Error {
  return errorOf(code, () => binding.startTransfer(1, request as TransferRequest))
}

function detached<T extends Uint8Array | Uint32Array>(array: T): T {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] })
  return array
}

/** What is wrong with a request of two blocks, in any way. */
function refusalsOf({ moves, hashes, parents, records }: TransferRequest, slotCount: number): Refusal[] {
  const refusals: Refusal[] = [
    ['moves that are no typed array', 'ERR_KV_INVALID_TYPE', { moves: [...moves] }],
    ['moves with a sign', 'ERR_KV_INVALID_TYPE', { moves: new Int32Array(moves) }],
    ['moves of bytes', 'ERR_KV_INVALID_TYPE', { moves: new Uint8Array(moves) }],
    ['half a move', 'ERR_KV_INVALID_VALUE', { moves: moves.slice(0, 5) }],
    ['a move without its hash', 'ERR_KV_INVALID_VALUE', { hashes: hashes.slice(0, 32) }],
    ['a hash without its move', 'ERR_KV_INVALID_VALUE', { moves: moves.slice(0, 3) }],
    ['a hash that lacks a byte', 'ERR_KV_INVALID_VALUE', { hashes: hashes.slice(1) }],
    ['hashes of words', 'ERR_KV_INVALID_TYPE', { hashes: new Uint32Array(16) }],
    ['no hashes', 'ERR_KV_INVALID_TYPE', { hashes: null }],
    ['moves that are gone', 'ERR_KV_DETACHED_ARRAY', { moves: detached(moves.slice()) }],
    ['hashes that are gone', 'ERR_KV_DETACHED_ARRAY', { hashes: detached(hashes.slice()) }],
    ['a source slot beyond the last', 'ERR_KV_SLOT_OUT_OF_RANGE', { moves: moves.with(3, slotCount) }],
    ['a target slot beyond the last', 'ERR_KV_SLOT_OUT_OF_RANGE', { moves: moves.with(5, slotCount) }],
    ['no source slot', 'ERR_KV_SLOT_OUT_OF_RANGE', { moves: moves.with(3, 0xffffffff) }],
    ['no target slot', 'ERR_KV_SLOT_OUT_OF_RANGE', { moves: moves.with(5, 0xffffffff) }],
    ['a target slot named twice', 'ERR_KV_SLOT_REPEATED', { moves: moves.with(5, moves[2]!) }],
    ['no source', 'ERR_KV_INVALID_TYPE', { source: null }],
    ['a target that is no handle', 'ERR_KV_INVALID_TYPE', { target: {} }],
    ['a path that there is not', 'ERR_KV_INVALID_VALUE', { path: 'sideways' }],
  ]
  if (parents === null || records === null) return refusals
  return [
    ...refusals,
    ['no parents', 'ERR_KV_INVALID_TYPE', { parents: null }],
    ['a parent too few', 'ERR_KV_INVALID_VALUE', { parents: parents.slice(32) }],
    ['no records', 'ERR_KV_INVALID_TYPE', { records: null }],
    ['half a record', 'ERR_KV_INVALID_VALUE', { records: records.slice(1) }],
    ['records of bytes', 'ERR_KV_INVALID_TYPE', { records: new Uint8Array(records) }],
  ]
}

describe.each(STORAGES.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  function refuseAll(way: Way, request: TransferRequest): void {
    for (const [what, code, change] of refusalsOf(request, FULL.slotCount)) {
      expect(refused(code, { ...request, ...change }).message, `${nameOf(way)}, ${what}`).not.toBe('')
    }
    if (request.via === null) return
    const { moves } = request
    refused('ERR_KV_SLOT_OUT_OF_RANGE', { ...request, moves: moves.with(4, FULL.slotCount) })
    refused('ERR_KV_SLOT_REPEATED', { ...request, moves: moves.with(4, moves[1]!) })
    refused('ERR_KV_INVALID_VALUE', { ...request, via: null })
  }

  test('refuses what is wrong with a batch that goes in, and stores nothing of it', async () => {
    const bench = await Bench.open(kind, FULL)
    for (const way of kind.into) {
      const guards = await bench.fill()
      const request = await bench.putRequest(way, [FIRST, SECOND])
      refuseAll(way, request)
      await bench.expectHolds(guards, kind.outOf.slice(-1))
      await bench.put(way, [FIRST, SECOND])
    }
    expect(completions().pending).toBe(0)
  })

  test('refuses what is wrong with a batch that goes out, and gets nothing of it out', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    for (const way of kind.outOf) {
      const asked = [guards[2]!, guards[5]!]
      const request = await bench.takeRequest(way, asked)
      refuseAll(way, request)
      await bench.expectNothingCame(way, asked, request)
      await bench.expectHolds(guards, [way])
    }
    expect(completions().pending).toBe(0)
  })

  test('refuses to be the source or the target of a path that is not its own, and names its kind', async () => {
    const bench = await Bench.open(kind, FULL)
    const message = new RegExp(`of kind ${kind.kind}$`)
    const own = { records: new Uint32Array(RECORD_WORDS), parents: new Uint8Array(32) }
    const out = { ...(await bench.takeRequest(kind.outOf[0]!, [FIRST])), ...own }
    const into = { ...(await bench.putRequest(kind.into[0]!, [FIRST])), ...own }
    for (const path of TRANSFER_PATHS) {
      if (path !== kind.check && !kind.outOf.some((way) => way.path === path)) {
        const target = path === 'memoryToSlab' ? await bench.otherSlab() : out.target
        expect(refused('ERR_KV_INVALID_VALUE', { ...out, path, target }).message).toMatch(message)
      }
      if (path.startsWith('memory') && !kind.into.some((way) => way.path === path)) {
        expect(refused('ERR_KV_INVALID_VALUE', { ...into, path }).message).toMatch(message)
      }
    }
  })

  test('refuses blocks of another shape', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    // As many bytes, but of other layers.
    const shape = { ...FULL.shape, layers: 1, tokensPerBlock: 12 }
    const other =
      kind.kind === 'device'
        ? await HostSlots.open(shape, FULL.slotCount)
        : new LentMemory('contiguous', shape, FULL.slotCount)
    onTestFinished(() => other.close())
    refused('ERR_KV_LAYOUT_MISMATCH', {
      ...(await bench.putRequest(kind.into[0]!, [FIRST, SECOND])),
      source: other.storage,
    })
    refused('ERR_KV_LAYOUT_MISMATCH', { ...(await bench.takeRequest(kind.outOf[0]!, guards)), target: other.storage })
    await bench.expectHolds(guards)
    expect(other.isPoisonBeside([])).toBe(true)
  })

  test('refuses work on slots that it has not', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    const beyond = Uint32Array.of(0, FULL.slotCount)
    const { storage } = bench
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () => binding.startErase(1, storage, beyond))
    errorOf('ERR_KV_INVALID_TYPE', () => binding.startErase(1, storage, [0] as unknown as Uint32Array))
    for (const call of ['startSeal', 'startFillPattern', 'startCheckPattern'] as const) {
      const start = (slots: Uint32Array, hashes: Uint8Array) => () => binding[call](1, storage, slots, hashes)
      // A GPU's memory keeps no checksums.
      const inMemory = kind.layout !== null && !(kind.kind === 'device' && call === 'startSeal')
      errorOf(inMemory ? 'ERR_KV_SLOT_OUT_OF_RANGE' : 'ERR_KV_INVALID_VALUE', start(beyond, hashesOf([1, 2])))
      errorOf('ERR_KV_INVALID_VALUE', start(Uint32Array.of(0, 1), hashesOf([1])))
      if (!inMemory || call === 'startCheckPattern') continue
      errorOf('ERR_KV_SLOT_REPEATED', start(Uint32Array.of(1, 1), hashesOf([1, 2])))
    }
    await bench.expectHolds(guards)
  })

  test('refuses to be opened with no slots, or for blocks of no shape', async () => {
    openEngine()
    const opening = { place: temporaryFolder(), ...FULL }
    const none = kind.open({ ...opening, slotCount: 0 })
    await expect(none).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_INVALID_VALUE' })
    for (const change of [{ outer: 3 }, { tokensPerBlock: 0 }, { parts: 0 }]) {
      const shapeless = kind.open({ ...opening, shape: { ...FULL.shape, ...change } })
      await expect(shapeless).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_INVALID_VALUE' })
    }
    await (await kind.open(opening)).close()
  })

  const { withoutRoom } = kind
  if (withoutRoom === null) return

  test('refuses to be opened larger than the machine, and leaves nothing of it behind', async () => {
    openEngine()
    const shape = { ...FULL.shape, tokensPerBlock: 1 << 16 }
    const opening = { place: temporaryFolder(), ...FULL, shape }
    const beyond = kind.open({ ...opening, slotCount: 2 ** 31 })
    await expect(beyond).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_INVALID_VALUE' })
    const large = kind.open({ ...opening, slotCount: 2 ** 31 - 1 })
    await expect(large).rejects.toMatchObject({ name: 'KvError', code: withoutRoom })
    await (await kind.open({ ...opening, shape: FULL.shape })).close()
  })
})
