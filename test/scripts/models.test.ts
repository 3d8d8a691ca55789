import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { cacheFolder, engineModelPath, MAKER_VERSION, makeModel, modelPath } from '../../scripts/models/cache.js'
import { ALIGNMENT, bytesOf, writeGguf } from '../../scripts/models/gguf-writer.js'
import { SHAPES, tensorsOf } from '../../scripts/models/shapes.js'
import { ByteSums, f16Bits, randomChunks } from '../../scripts/models/weights.js'
import { capture, root } from '../../scripts/run.js'
import { readGguf } from '../support/gguf.js'

/** The first model that every machine makes. Another one needs another MAKER_VERSION. */
const TINY_SHA256 = 'f49224cb9a1ae4e36548788ac3b6f656a1b4398b7de7e237336ca3a5dc5fc6c1'
const TINY_BYTES = 5_132_768

let folder = ''

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

/** The value of an f16. */
function f16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25)
}

function f16Values(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / 2 }, (_, i) => f16Value(bytes.readUInt16LE(2 * i)))
}

/** What the blocks of a Q8_0 tensor hold, and the scale of each value's block. */
function q8Values(bytes: Buffer): { value: number; scale: number }[] {
  return Array.from({ length: (bytes.length / 34) * 32 }, (_, i) => {
    const block = Math.floor(i / 32) * 34
    const scale = f16Value(bytes.readUInt16LE(block))
    return { value: scale * bytes.readInt8(block + 2 + (i % 32)), scale }
  })
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-models-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('a made model', () => {
  test('has the same bytes on every machine', () => {
    const model = makeModel('tiny', { folder })
    expect(model).toMatchObject({ bytes: TINY_BYTES, dtype: 'f16', made: true })
    expect(sha256(model.path), `raise MAKER_VERSION (${MAKER_VERSION}) with it`).toBe(TINY_SHA256)
  })

  test('reads back: header, metadata, and a table of aligned tensors that fill the file', () => {
    const file = readGguf(readFileSync(modelPath('tiny', { folder })))
    expect(file.version).toBe(3)
    expect(Object.fromEntries(file.metadata)).toMatchObject({
      'general.architecture': 'llama',
      'llama.embedding_length': SHAPES.tiny.width,
      'llama.block_count': SHAPES.tiny.layers,
      'llama.attention.head_count_kv': SHAPES.tiny.kvHeads,
      'tokenizer.ggml.model': 'llama',
    })
    const tokens = file.metadata.get('tokenizer.ggml.tokens') as string[]
    expect(tokens).toHaveLength(384)
    expect(new Set(tokens).size).toBe(384)
    expect(file.dataStart % ALIGNMENT).toBe(0)
    const tensors = tensorsOf('tiny', 'f16', 1)
    expect(file.tensors.map(({ name }) => name)).toEqual(tensors.map(({ name }) => name))
    let end = 0
    for (const [i, { offset, dims }] of file.tensors.entries()) {
      expect(offset % ALIGNMENT).toBe(0)
      expect(offset - end).toBeGreaterThanOrEqual(0)
      expect(offset - end).toBeLessThan(ALIGNMENT)
      expect(dims).toEqual(tensors[i]!.dims)
      end = offset + bytesOf(tensors[i]!)
    }
    expect(Math.ceil(end / ALIGNMENT) * ALIGNMENT).toBe(TINY_BYTES - file.dataStart)
  })

  test('has weights around zero, of the size that was asked for', () => {
    const bytes = readFileSync(modelPath('tiny', { folder }))
    const values = f16Values(readGguf(bytes).bytesOf('blk.0.ffn_up.weight'))
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length
    expect(values).toHaveLength(256 * 512)
    expect(Math.abs(mean)).toBeLessThan(1e-3)
    expect(Math.sqrt(variance) * Math.sqrt(256)).toBeCloseTo(1, 2)
  })

  test('generates only characters: rows of other tokens are zero', () => {
    const file = readGguf(readFileSync(modelPath('tiny', { folder })))
    const types = file.metadata.get('tokenizer.ggml.token_type') as number[]
    const rows = f16Values(file.bytesOf('output.weight'))
    for (const [token, type] of types.entries()) {
      const isZero = rows.slice(token * 256, (token + 1) * 256).every((value) => value === 0)
      expect(isZero, `token ${token}`).toBe(type !== 1)
    }
  })

  test('in Q8_0 holds the weights of the f16 one, as near as its blocks can', () => {
    const half = readGguf(readFileSync(modelPath('tiny', { folder })))
    const path = modelPath('tiny', { folder, dtype: 'q8_0' })
    const quantised = readGguf(readFileSync(path))
    expect(quantised.metadata.get('general.file_type')).toBe(7)
    for (const name of ['blk.0.attn_q.weight', 'blk.3.ffn_down.weight', 'output.weight']) {
      const exact = f16Values(half.bytesOf(name))
      const near = q8Values(quantised.bytesOf(name))
      expect(near).toHaveLength(exact.length)
      // Half a step, what f16 rounds of the scale 127 times over, and what it rounds of the exact weight.
      const worst = near.reduce(
        (most, { value, scale }, i) =>
          Math.max(most, Math.abs(value - exact[i]!) - scale * (0.5 + 127 * 2 ** -11 + 127 * 2 ** -11)),
        Number.NEGATIVE_INFINITY,
      )
      expect(worst, name).toBeLessThanOrEqual(0)
    }
    // A scale that were always too large or too small would stay within that.
    const blocks = quantised.bytesOf('blk.0.attn_q.weight')
    const largest = Array.from({ length: blocks.length / 34 }, (_, block) =>
      Math.max(
        ...Array.from(blocks.subarray(block * 34 + 2, (block + 1) * 34), (byte) => Math.abs((byte << 24) >> 24)),
      ),
    )
    expect(new Set(largest)).toEqual(new Set([127]))
  })

  test('of another seed, or of another name, has other weights', () => {
    const bytes = (seed: number, name: 'tiny' | 'window', tensor: string): Buffer => {
      const found = tensorsOf(name, 'f16', seed).find((each) => each.name === tensor)!
      return Buffer.concat([...found.chunks()])
    }
    const first = bytes(1, 'tiny', 'blk.0.attn_q.weight')
    expect(bytes(1, 'tiny', 'blk.0.attn_q.weight')).toEqual(first)
    expect(bytes(2, 'tiny', 'blk.0.attn_q.weight')).not.toEqual(first)
    expect(bytes(1, 'tiny', 'blk.1.attn_q.weight')).not.toEqual(first)
    expect(bytes(1, 'window', 'blk.0.ffn_up.weight')).not.toEqual(bytes(1, 'tiny', 'blk.0.ffn_up.weight'))
  })

  test.each([
    ['mid', 24_510_464],
    ['large', 106_610_688],
    ['window', 3_735_552],
    ['hybrid', 4_000_768],
  ] as const)('%s has the parameters that it says', (name, parameters) => {
    const matrices = tensorsOf(name, SHAPES[name].dtype, 1).filter(({ dims }) => dims.length > 1)
    const count = matrices.reduce((sum, { dims }) => sum + dims[0]! * dims[1]!, 0)
    expect(count).toBe(parameters)
    expect(SHAPES[name].about).toContain(`${(parameters / 1e6).toFixed(1)} M parameters`)
  })
})

describe('the cache of models', () => {
  test('uses a file again, makes a damaged one anew, and leaves nothing else there', () => {
    const own = join(folder, 'own')
    const { path } = makeModel('tiny', { folder: own })
    expect(makeModel('tiny', { folder: own })).toMatchObject({ path, made: false })
    expect(makeModel('tiny', { folder: own, force: true }).made).toBe(true)
    truncateSync(path, 1000)
    expect(makeModel('tiny', { folder: own }).made).toBe(true)
    expect(sha256(path)).toBe(TINY_SHA256)
    expect(readdirSync(own)).toEqual([`kvtier-tiny-f16-v${MAKER_VERSION}-seed1.gguf`])
  })

  test('keeps no half of a file when making it fails', () => {
    const own = join(folder, 'failing')
    const onProgress = (written: number): void => {
      if (written > 1_000_000) throw new Error('the disk is full')
    }
    expect(() => makeModel('tiny', { folder: own, onProgress })).toThrow('the disk is full')
    expect(readdirSync(own)).toEqual([])
  })

  test('says so where its folder cannot be', () => {
    const file = join(folder, 'a-file')
    writeFileSync(file, '')
    expect(() => makeModel('tiny', { folder: join(file, 'below') })).toThrow(/ENOTDIR|EEXIST/)
  })

  test('refuses names, types and seeds that there are not', () => {
    expect(() => modelPath('huge', { folder })).toThrow(
      "There is no model 'huge': there are tiny, mid, large, window, hybrid.",
    )
    expect(() => modelPath('toString', { folder })).toThrow("There is no model 'toString'")
    expect(() => modelPath('tiny', { folder, dtype: 'q4_0' as 'f16' })).toThrow("f16 or q8_0, not 'q4_0'")
    for (const seed of [-1, 0.5, Number.NaN]) expect(() => modelPath('tiny', { folder, seed })).toThrow('whole number')
  })

  test('is where the environment says', () => {
    vi.stubEnv('KVTIER_MODEL_CACHE', join(folder, 'chosen'))
    expect(cacheFolder()).toBe(join(folder, 'chosen'))
    vi.stubEnv('KVTIER_MODEL_CACHE', '')
    vi.stubEnv('XDG_CACHE_HOME', join(folder, 'xdg'))
    expect(cacheFolder()).toBe(join(folder, 'xdg', 'kvtier', 'models'))
    vi.unstubAllEnvs()
  })

  test('gives way to a real model, which must be there', () => {
    const real = join(folder, 'real.gguf')
    vi.stubEnv('KVTIER_ENGINE_MODEL', real)
    expect(() => engineModelPath('tiny', { folder })).toThrow(`KVTIER_ENGINE_MODEL names no file: ${real}`)
    writeFileSync(real, '')
    expect(engineModelPath('tiny', { folder })).toBe(real)
    vi.stubEnv('KVTIER_ENGINE_MODEL', '')
    expect(engineModelPath('tiny', { folder })).toBe(modelPath('tiny', { folder }))
    vi.unstubAllEnvs()
  })
})

describe('weights', () => {
  test('every f16 is found from its value, and of two equally near ones the even one', () => {
    for (let bits = 0; bits < 0x7c00; bits += 1) {
      const value = f16Value(bits)
      if (f16Bits(value) !== bits || f16Bits(-value) !== (bits | 0x8000)) expect.unreachable(`bits ${bits}`)
      const middle = (value + f16Value(bits + 1)) / 2
      if (bits < 0x7bff && f16Bits(middle) !== bits + (bits & 1)) expect.unreachable(`after bits ${bits}`)
    }
    expect(f16Bits(70_000)).toBe(0x7c00)
    expect(f16Bits(Number.NEGATIVE_INFINITY)).toBe(0xfc00)
    expect(f16Bits(Number.NaN) & 0x7fff).toBeGreaterThan(0x7c00)
    expect(f16Bits(2 ** -26)).toBe(0)
  })

  test('sums go on where the last ones ended', () => {
    const [whole, first, second] = [new Uint16Array(10), new Uint16Array(4), new Uint16Array(6)]
    new ByteSums('seed').fill(whole)
    const generator = new ByteSums('seed')
    generator.fill(first)
    generator.fill(second)
    expect([...first, ...second]).toEqual([...whole])
  })

  test('a large tensor is made in small pieces', () => {
    const sizes = [...randomChunks('seed', [576, 1536], 'f16', 1)].map(({ length }) => length)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(128 * 1024)
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(576 * 1536 * 2)
  })

  test('a tensor whose bytes do not fit its shape is refused', () => {
    const odd = { name: 'odd', dims: [33], type: 'q8_0' as const, chunks: () => [] }
    expect(() => writeGguf(-1, [], [odd])).toThrow('odd: rows of 33 elements cannot be q8_0')
    const short = { name: 'short', dims: [4], type: 'f32' as const, chunks: () => [new Uint8Array(12)] }
    const file = openSync(join(folder, 'short.gguf'), 'w')
    expect(() => writeGguf(file, [], [short])).toThrow('short: made 12 bytes where its shape asks for 16')
    closeSync(file)
  })
})

describe('the command', () => {
  const make = join(root, 'scripts', 'models', 'make.js')
  const run = (args: string[], own: string): ReturnType<typeof capture> =>
    capture(process.execPath, [make, ...args], { KVTIER_MODEL_CACHE: join(folder, own) })

  test('prints the path of what it made, or all about it as JSON', () => {
    const path = join(folder, 'command', `kvtier-tiny-q8_0-v${MAKER_VERSION}-seed7.gguf`)
    const args = ['tiny', '--dtype', 'q8_0', '--seed', '7']
    expect(run(args, 'command')).toMatchObject({ ok: true, output: `${path}\n` })
    expect(existsSync(path)).toBe(true)
    const { output } = run([...args, '--json'], 'command')
    expect(JSON.parse(output)).toMatchObject({ name: 'tiny', path, dtype: 'q8_0', made: false })
  })

  test('explains itself, and says what is wrong in one line', () => {
    expect(run(['--help'], 'command').output).toContain('sliding window of 256 tokens')
    expect(run(['huge'], 'command')).toEqual({
      ok: false,
      output: "There is no model 'huge': there are tiny, mid, large, window, hybrid.\n",
      ended: 'exit code 1',
    })
    expect(run([], 'command').output).toBe('Which model? One of tiny, mid, large, window, hybrid, or all.\n')
    expect(run(['tiny', '--seed', 'x'], 'command').output).toContain('whole number')
  })
})
