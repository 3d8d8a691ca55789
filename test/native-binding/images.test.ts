/** State images through the seam: written by path as an engine would, read, cut, built, closed; and everything misused. */
import { readdirSync, readFileSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'

import {
  type BuiltImage,
  binding,
  type GroupShape,
  type ImageHandle,
  type ImageSectionKind,
  type ImageSource,
  type ReadImage,
  type StorageHandle,
} from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import type { ErrorCode } from '../../lib/native/generated.js'
import { runScript } from '../support/child.js'
import { errorOf } from '../support/expect-code.js'
import { collectUntil } from '../support/garbage.js'
import { close, hashesOf, numbers, openEngine, runBatch, testing, until } from './harness.js'

beforeAll(() => openEngine())

const LAYERS = 2
const TOKENS_PER_BLOCK = 4
const K_ROW = 24
const V_ROW = 8
const SLOTS = 32
const SHAPE: GroupShape = {
  parts: 1,
  layers: 1,
  outer: 1,
  tokensPerBlock: TOKENS_PER_BLOCK,
  bytesPerToken: LAYERS * (K_ROW + V_ROW),
}

/** A state of one attention cache with `count` tokens, as llama.cpp writes it. */
function state(count: number, first = 0): Buffer {
  const words = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer)
  const row = (layer: number, value: number, position: number, length: number): Buffer =>
    Buffer.from(Array.from({ length }, (_, at) => (layer * 89 + value * 53 + position * 17 + at * 3 + 1) & 0xff))
  const positions = numbers(count - first, first)
  const rows = (value: number, length: number): Buffer[] =>
    numbers(LAYERS).flatMap((layer) => [
      words(1, length, 0),
      ...positions.map((position) => row(layer, value, position, length)),
    ])
  return Buffer.concat([
    words(0x67677371, 3, count, ...numbers(count, 100), 1, positions.length),
    ...positions.map((position) => words(position, 1, 0)),
    words(0, LAYERS),
    ...rows(0, K_ROW),
    ...rows(1, V_ROW),
  ])
}

/** An image that is closed after the test. */
function open(): ImageHandle {
  const image = binding.openImage()
  onTestFinished(() => shut(image).catch(() => undefined))
  return image
}

function shut(image: ImageHandle): Promise<undefined> {
  return completions().call<undefined>((ticket) => binding.startCloseImage(ticket, image))
}

function read(image: ImageHandle, sections: ImageSectionKind[] = ['attention'], maxTokens = 4096): Promise<ReadImage> {
  return completions().call((ticket) => binding.startReadImage(ticket, image, 'llama', sections, maxTokens))
}

function cut(image: ImageHandle, storage: StorageHandle, moves: number[], section = 0): Promise<undefined> {
  return completions().call((ticket) => binding.startCutImage(ticket, image, section, storage, new Uint32Array(moves)))
}

function build(
  image: ImageHandle,
  shape: Uint32Array,
  tokens: Uint32Array,
  sources: readonly ImageSource[],
): Promise<BuiltImage> {
  return completions().call((ticket) => binding.startBuildImage(ticket, image, shape, tokens, sources))
}

async function slots(shape: GroupShape = SHAPE): Promise<StorageHandle> {
  const storage = await completions().call<StorageHandle>((ticket) =>
    binding.startOpenMemory(ticket, 'contiguous', shape, SLOTS),
  )
  onTestFinished(() => close(storage).then(undefined, () => undefined))
  return storage
}

/** An image that was read, its blocks in sealed slots of their own numbers. */
async function cutState(count: number): Promise<{ image: ImageHandle; found: ReadImage; storage: StorageHandle }> {
  const [image, storage] = [open(), await slots()]
  writeFileSync(binding.imagePath(image), state(count))
  const found = await read(image)
  const blocks = numbers(Math.floor(count / TOKENS_PER_BLOCK))
  await cut(
    image,
    storage,
    blocks.flatMap((block) => [block, block]),
  )
  await runBatch((ticket) => binding.startSeal(ticket, storage, new Uint32Array(blocks), hashesOf(blocks)))
  return { image, found, storage }
}

function source(storage: StorageHandle, blocks: readonly number[]): ImageSource {
  return { storage, firstBlock: blocks[0] ?? 0, slots: new Uint32Array(blocks), hashes: hashesOf(blocks) }
}

/** The error with which it is rejected, after checking its code. */
async function expectCode(code: ErrorCode, promise: Promise<unknown>): Promise<Error> {
  let run = (): unknown => undefined
  await promise.catch((error: unknown) => {
    run = () => {
      throw error
    }
  })
  return errorOf(code, run)
}

/** Files in memory that this process has open. */
function openImages(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('kvtier-image')
    } catch {
      return false
    }
  }).length
}

beforeEach(() => until(() => completions().pending === 0))

test('an image that an engine wrote is read, cut, and built again with the same bytes', async () => {
  const { image, found, storage } = await cutState(24)
  expect(found).toMatchObject({
    version: 3,
    sections: [{ kind: 'attention', layers: 2, firstPosition: 0, cellCount: 24, bytesPerToken: 64, transposed: false }],
  })
  expect([...found.tokens]).toEqual(numbers(24, 100))
  expect([...(found.sections[0]?.rows ?? [])]).toEqual([1, K_ROW, 1, V_ROW, 1, K_ROW, 1, V_ROW])
  const other = open()
  for (const blocks of [6, 1, 4]) {
    const built = await build(other, found.shape, found.tokens.slice(0, blocks * 4), [source(storage, numbers(blocks))])
    expect(built).toEqual({ bytes: state(blocks * 4).length, bad: new Uint32Array() })
    expect(readFileSync(binding.imagePath(other))).toEqual(state(blocks * 4))
  }
  expect((await read(other)).tokens).toEqual(found.tokens.slice(0, 16))
  // The first image is as it was.
  await cut(image, storage, [5, 31])
})

test('a window of a sequence begins with the first block that it is given', async () => {
  const { found, storage } = await cutState(24)
  const image = open()
  await build(image, found.shape, found.tokens, [source(storage, [3, 4, 5])])
  expect(readFileSync(binding.imagePath(image))).toEqual(state(24, 12))
})

test('a block whose bytes are not those of its checksum is named, and nothing is left in the file', async () => {
  const { found, storage } = await cutState(16)
  const window = binding.openWindow(storage, 2)
  new Uint8Array(window)[10]! ^= 4
  binding.closeWindow(window)
  const image = open()
  const built = await build(image, found.shape, found.tokens, [source(storage, [0, 1, 2, 3])])
  expect(built).toEqual({ bytes: 0, bad: new Uint32Array([0, 2]) })
  expect(readFileSync(binding.imagePath(image))).toHaveLength(0)
  const mixed = { ...source(storage, [0, 1]), hashes: hashesOf([1, 0]) }
  const built2 = await build(image, found.shape, found.tokens.slice(0, 8), [mixed])
  expect([...built2.bad]).toEqual([0, 0, 0, 1])
})

test('what is no image is refused with its place', async () => {
  const image = open()
  await expectCode('ERR_KV_BAD_IMAGE', read(image))
  writeFileSync(binding.imagePath(image), state(8))
  await read(image)
  const error = await expectCode('ERR_KV_BAD_IMAGE', read(image, ['attention'], 7))
  expect(error.message).toContain('byte 8 of the state image: the number of tokens is 8; expected 0 to 7')
  await expectCode('ERR_KV_BAD_IMAGE', read(image, ['latent']))
  await expectCode('ERR_KV_BAD_IMAGE', read(image, ['attention', 'recurrent']))
  truncateSync(binding.imagePath(image), state(8).length - 1)
  await expectCode('ERR_KV_BAD_IMAGE', read(image))
})

test('an image that an engine shortens after it was read is refused', async () => {
  const { image, storage } = await cutState(16)
  writeFileSync(binding.imagePath(image), state(4))
  await expectCode('ERR_KV_BAD_IMAGE', cut(image, storage, [3, 3]))
})

test('what cannot be cut or built is reported', async () => {
  const { image, found, storage } = await cutState(16)
  const { shape, tokens } = found
  await expectCode('ERR_KV_INVALID_VALUE', cut(image, storage, [4, 4]))
  await expectCode('ERR_KV_INVALID_VALUE', cut(image, storage, [0, 0], 1))
  await expectCode('ERR_KV_SLOT_OUT_OF_RANGE', cut(image, storage, [0, SLOTS]))
  await expectCode('ERR_KV_SLOT_REPEATED', cut(image, storage, [0, 1, 1, 1]))
  const large = await slots({ ...SHAPE, bytesPerToken: 65 })
  await expectCode('ERR_KV_LAYOUT_MISMATCH', cut(image, large, [0, 0]))
  await expectCode('ERR_KV_INVALID_VALUE', cut(open(), storage, [0, 0]))
  const target = open()
  await expectCode('ERR_KV_INVALID_VALUE', build(target, shape.slice(1), tokens, [source(storage, numbers(4))]))
  await expectCode('ERR_KV_INVALID_VALUE', build(target, new Uint32Array(), tokens, [source(storage, numbers(4))]))
  await expectCode('ERR_KV_INVALID_VALUE', build(target, shape, tokens, []))
  await expectCode('ERR_KV_INVALID_VALUE', build(target, shape, tokens, [source(storage, numbers(3))]))
  await expectCode('ERR_KV_INVALID_VALUE', build(target, shape, tokens.slice(0, 0), [source(storage, [])]))
  await expectCode('ERR_KV_LAYOUT_MISMATCH', build(target, shape, tokens, [source(large, numbers(4))]))
  // What was built was not read.
  await build(target, shape, tokens, [source(storage, numbers(4))])
  await expectCode('ERR_KV_INVALID_VALUE', cut(target, storage, [0, 0]))
})

test('wrong arguments throw', async () => {
  const [image, storage] = [open(), await slots()]
  const words = new Uint32Array(4)
  const loose = binding as unknown as Record<string, (...args: unknown[]) => unknown>
  const throws = (code: string, name: string, ...args: unknown[]) =>
    expect(() => loose[name]?.(...args), `${name}(${args.join()})`).toThrow(expect.objectContaining({ code }))
  throws('ERR_KV_INVALID_TYPE', 'imagePath', storage)
  throws('ERR_KV_INVALID_TYPE', 'imagePath', {})
  throws('ERR_KV_INVALID_TYPE', 'startCloseImage', 1, storage)
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 1, image, 'vllm', ['attention'], 1)
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 1, image, 'llama', ['window'], 1)
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 1, image, 'llama', [], 1)
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 1, image, 'llama', new Array(9).fill('attention'), 1)
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 1, image, 'llama', ['recurrent', 'attention'], 1)
  throws('ERR_KV_INVALID_TYPE', 'startReadImage', 1, image, 'llama', 'attention', 1)
  throws('ERR_KV_INVALID_TYPE', 'startReadImage', 1, image, 'llama', ['attention'], '1')
  throws('ERR_KV_INVALID_TYPE', 'startCutImage', 1, image, 0, image, words)
  throws('ERR_KV_INVALID_TYPE', 'startCutImage', 1, image, 0, storage, [0, 0])
  throws('ERR_KV_INVALID_VALUE', 'startCutImage', 1, image, 8, storage, words)
  throws('ERR_KV_INVALID_VALUE', 'startCutImage', 1, image, 0, storage, new Uint32Array(3))
  throws('ERR_KV_INVALID_TYPE', 'startBuildImage', 1, image, [], words, [])
  throws('ERR_KV_INVALID_TYPE', 'startBuildImage', 1, image, words, words, {})
  throws('ERR_KV_INVALID_TYPE', 'startBuildImage', 1, image, words, words, [{}])
  const good = source(storage, [0, 1])
  throws('ERR_KV_INVALID_VALUE', 'startBuildImage', 1, image, words, words, [{ ...good, hashes: new Uint8Array(63) }])
  throws('ERR_KV_INVALID_VALUE', 'startBuildImage', 1, image, words, words, [{ ...good, firstBlock: -1 }])
  throws('ERR_KV_INVALID_VALUE', 'startBuildImage', 1, image, words, words, new Array(9).fill(good))
  // A ticket that is no ticket leaves the image free.
  throws('ERR_KV_INVALID_VALUE', 'startReadImage', 0, image, 'llama', ['attention'], 1)
  await expectCode('ERR_KV_BAD_IMAGE', read(image))
})

test('one call at a time uses an image', async () => {
  const image = open()
  writeFileSync(binding.imagePath(image), state(8))
  testing().holdIo()
  onTestFinished(() => testing().releaseIo())
  const first = read(image)
  await until(() => testing().heldIo() === 1)
  await expectCode('ERR_KV_INVALID_VALUE', read(image))
  testing().releaseIo()
  await first
  await read(image)
})

test('a closed image is refused, and a closed storage', async () => {
  const { image, found, storage } = await cutState(8)
  await close(storage)
  await expectCode('ERR_KV_CLOSED', cut(image, storage, [0, 0]))
  await expectCode('ERR_KV_CLOSED', build(image, found.shape, found.tokens, [source(storage, [0, 1])]))
  await shut(image)
  for (const late of [() => shut(image), () => read(image), async () => binding.imagePath(image)]) {
    await expectCode('ERR_KV_CLOSED', late())
  }
})

test('a close waits for the call that uses the image, and gives its memory back', async () => {
  const before = openImages()
  const image = binding.openImage()
  writeFileSync(binding.imagePath(image), state(8))
  expect(openImages()).toBe(before + 1)
  testing().holdIo()
  onTestFinished(() => testing().releaseIo())
  const reading = read(image)
  await until(() => testing().heldIo() === 1)
  let closed = false
  const closing = shut(image).then(() => {
    closed = true
  })
  // Whatever the first close began has run when a second one of another image has ended.
  await shut(binding.openImage())
  expect(closed).toBe(false)
  testing().releaseIo()
  await reading
  await closing
  expect(openImages()).toBe(before)
})

test('an image that is collected is given back', async () => {
  const before = openImages()
  for (let i = 0; i < 8; i++) binding.openImage()
  await collectUntil(() => openImages() === before)
})

test('reads and writes that the system fails are reported, and the image works afterwards', async () => {
  const { image, found, storage } = await cutState(16)
  onTestFinished(() => testing().setFaults(null))
  testing().setFaults({ seed: 1, failCall: 1 })
  await expectCode('ERR_KV_IO', read(image))
  testing().setFaults({ seed: 1, failCall: 1 })
  await expectCode('ERR_KV_IO', build(image, found.shape, found.tokens, [source(storage, numbers(4))]))
  testing().setFaults({ seed: 1, writeNoSpace: 1 })
  await expectCode('ERR_KV_NO_SPACE', build(image, found.shape, found.tokens, [source(storage, numbers(4))]))
  testing().setFaults(null)
  await build(image, found.shape, found.tokens, [source(storage, numbers(4))])
  expect(readFileSync(binding.imagePath(image))).toEqual(state(16))
})

test('worker threads can be terminated with image calls that run and wait', { timeout: 60_000 }, async () => {
  const script = fileURLToPath(new URL('./images/workers-child.js', import.meta.url))
  expect(await runScript(script, ['12'])).toMatchObject({
    code: 0,
    signal: null,
    stdout: 'rounds done, 0 left\n',
    stderr: '',
  })
})
