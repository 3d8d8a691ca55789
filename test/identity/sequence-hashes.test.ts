import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { runInNewContext } from 'node:vm'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import {
  type ExtraKeyAt,
  MAX_SEQUENCE_TOKENS,
  SequenceHashes,
  type SequenceHashesOptions,
  SYNC_TOKENS,
  type Tokens,
} from '../../lib/identity/sequence-hashes.js'
import { fallbackHasher, type TokenHasher } from '../../lib/identity/token-hasher.js'
import { errorOf } from '../support/expect-code.js'

const OPTIONS: SequenceHashesOptions = {
  fingerprint: new Uint8Array(32).fill(1),
  salt: new Uint8Array(32).fill(2),
  tokensPerBlock: 4,
  hasher: fallbackHasher,
}

const make = (changes: Partial<SequenceHashesOptions> = {}): SequenceHashes =>
  new SequenceHashes({ ...OPTIONS, ...changes })

const upTo = (count: number): Uint32Array => Uint32Array.from({ length: count }, (_, place) => place)

/** The hashes of a sequence, one hex text a block. */
function hashesOf(tokens: Tokens, changes: Partial<SequenceHashesOptions> = {}): string[] {
  const sequence = make(changes)
  sequence.append(tokens)
  sequence.hashBlocks()
  return blocksOf(sequence)
}

const blocksOf = (sequence: SequenceHashes): string[] =>
  Array.from({ length: sequence.hashedCount }, (_, block) =>
    Buffer.from(sequence.bytes.subarray(block * 32, block * 32 + 32)).toString('hex'),
  )

/** A hasher whose engine thread waits for the test, and that counts calls. */
function heldHasher(): TokenHasher & { release(): Promise<void>; started: number; hashed: number } {
  const waiting: (() => void)[] = []
  const held = {
    source: 'openssl' as const,
    started: 0,
    hashed: 0,
    hash: (...args: Parameters<TokenHasher['hash']>): void => {
      ++held.hashed
      fallbackHasher.hash(...args)
    },
    start: async (...args: Parameters<TokenHasher['start']>): Promise<Uint8Array> => {
      ++held.started
      const result = fallbackHasher.start(...args)
      await new Promise<void>((resolve) => waiting.push(resolve))
      return result
    },
    release: async (): Promise<void> => {
      for (const resolve of waiting.splice(0)) resolve()
      // Two turns: one for the hash, one for whoever awaits it.
      for (let turn = 0; turn < 20; ++turn) await new Promise((resolve) => setImmediate(resolve))
    },
  }
  return held
}

describe('a sequence grows', () => {
  it('to the same hashes in one piece and in any pieces of any array type', () => {
    const pieces = fc.array(fc.array(fc.nat(0x7fffffff), { maxLength: 11 }), { maxLength: 12 })
    fc.assert(
      fc.property(pieces, fc.infiniteStream(fc.nat(3)), (lists, choices) => {
        const sequence = make()
        for (const list of lists) {
          const choice = choices.next().value
          if (choice === 0) sequence.append(list)
          else if (choice === 1) sequence.append(Int32Array.from(list))
          else sequence.append(Uint32Array.from(list))
          if (choice === 3) sequence.hashBlocks()
        }
        sequence.hashBlocks()
        const all = lists.flat()
        expect([...sequence.tokens]).toEqual(all)
        expect(sequence.blockCount).toBe(Math.floor(all.length / 4))
        expect(blocksOf(sequence)).toEqual(hashesOf(all))
      }),
    )
  })

  it('past its first capacity without losing tokens or hashes', () => {
    const sequence = make({ tokensPerBlock: 1 })
    const tokens = upTo(5000)
    for (let first = 0; first < tokens.length; first += 37) {
      sequence.append(tokens.subarray(first, first + 37))
      sequence.hashBlocks()
    }
    expect(sequence.tokens).toEqual(tokens)
    expect(sequence.words).toHaveLength(5000 * 8)
    expect(blocksOf(sequence)).toEqual(hashesOf(tokens, { tokensPerBlock: 1 }))
  })

  it('hashing whole blocks only, and each once', () => {
    const hasher = heldHasher()
    const sequence = make({ hasher })
    sequence.append(upTo(7))
    expect([sequence.tokenCount, sequence.blockCount, sequence.hashedCount]).toEqual([7, 1, 0])
    expect(sequence.words).toHaveLength(0)
    expect(sequence.hashBlocks()).toBe(1)
    expect(sequence.hashBlocks()).toBe(1)
    sequence.append([7])
    expect(sequence.hashBlocks()).toBe(2)
    expect(hasher.hashed).toBe(2)
  })

  it('by a copy: the caller may reuse its array', () => {
    const sequence = make()
    const tokens = upTo(8)
    sequence.append(tokens)
    tokens.fill(99)
    sequence.hashBlocks()
    expect(blocksOf(sequence)).toEqual(hashesOf(upTo(8)))
  })

  it('with words and bytes that are the same memory', () => {
    const sequence = make()
    sequence.append(upTo(8))
    sequence.hashBlocks()
    expect(Buffer.from(sequence.words.buffer, 0, 64)).toEqual(Buffer.from(sequence.bytes))
    expect(sequence.words).toHaveLength(16)
  })

  it('by arrays of another realm', () => {
    const sequence = make()
    sequence.append(runInNewContext('Uint32Array.of(0, 1, 2, 3)') as Uint32Array)
    sequence.append(runInNewContext('[4, 5, 6, 7]') as number[])
    sequence.hashBlocks()
    expect(blocksOf(sequence)).toEqual(hashesOf(upTo(8)))
  })
})

describe('an identity', () => {
  it('is a root over fingerprint, salt and keys, all length-prefixed, and a chain over it', () => {
    const part = (bytes: Uint8Array): Buffer => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(bytes.length)
      return Buffer.concat([length, bytes])
    }
    const key = Buffer.concat([Buffer.of(1), part(Uint8Array.of(5, 6))])
    const text = [Buffer.from('kvtier sequence root 1'), OPTIONS.fingerprint, OPTIONS.salt, key].map(part)
    const root = createHash('sha256').update(Buffer.concat(text)).digest()
    const sequence = make({ extraKeys: [Uint8Array.of(5, 6)] })
    expect(Buffer.from(sequence.root)).toEqual(root)
    sequence.append(upTo(4))
    sequence.hashBlocks()
    const first = new Uint8Array(32)
    fallbackHasher.hash(root, upTo(4), 4, new Uint8Array(0), first)
    expect(sequence.bytes).toEqual(first)
  })

  it('differs by everything that goes into it', () => {
    const at = (token: number, key: string | Uint8Array): ExtraKeyAt => ({ token, key })
    const different = [
      hashesOf(upTo(4)),
      hashesOf(upTo(4), { fingerprint: new Uint8Array(32) }),
      hashesOf(upTo(4), { salt: new Uint8Array(32) }),
      hashesOf(upTo(4), { fingerprint: OPTIONS.salt, salt: OPTIONS.fingerprint }),
      hashesOf(upTo(4), { extraKeys: [''] }),
      hashesOf(upTo(4), { extraKeys: ['ab'] }),
      hashesOf(upTo(4), { extraKeys: ['a', 'b'] }),
      hashesOf(upTo(4), { extraKeys: ['b', 'a'] }),
      hashesOf(upTo(4), { extraKeys: [Buffer.from('ab', 'utf16le')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(0, 'ab')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(1, 'ab')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(0, 'a'), at(0, 'b')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(0, 'b'), at(0, 'a')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(0, 'a'), at(1, 'b')] }),
      hashesOf(upTo(4), { extraKeysAt: [at(0, Buffer.from('ab', 'utf16le'))] }),
      hashesOf([0, 1, 2, 4]),
      hashesOf([1, 0, 2, 3]),
    ].map((hashes) => hashes[0])
    expect(new Set(different).size).toBe(different.length)
  })

  it('is shared exactly as far as tokens and images are', () => {
    const images: ExtraKeyAt[] = [{ token: 5, key: 'image' }]
    const plain = hashesOf(upTo(16))
    const withImage = hashesOf(upTo(16), { extraKeysAt: images })
    expect(withImage[0]).toBe(plain[0])
    for (const block of [1, 2, 3]) expect(withImage[block]).not.toBe(plain[block])
    expect(hashesOf(upTo(16), { extraKeysAt: [...images, { token: 99, key: 'later' }] })).toEqual(withImage)
  })

  it('takes an image’s key with the tokens it comes with, as if it had been known from the start', () => {
    const sequence = make()
    sequence.append(upTo(6))
    sequence.hashBlocks()
    sequence.append(upTo(16).subarray(6), [{ token: 6, key: 'image' }])
    sequence.hashBlocks()
    expect(blocksOf(sequence)).toEqual(hashesOf(upTo(16), { extraKeysAt: [{ token: 6, key: 'image' }] }))
    const late = () => sequence.append([1], [{ token: 15, key: 'late' }])
    expect(errorOf('ERR_KV_INVALID_VALUE', late).message).toMatch(/at least 16/)
    expect(sequence.tokenCount).toBe(16)
  })
})

describe('append refuses', () => {
  it.each([
    ['a fraction', [1, 2.5], 1, '2.5'],
    ['a negative number', [-1], 0, '-1'],
    ['2^32', [1, 2, 4294967296], 2, '4294967296'],
    ['NaN', [Number.NaN], 0, 'NaN'],
    ['an infinity', [Infinity], 0, 'Infinity'],
    ['text', ['7'], 0, '"7"'],
    ['null', [null], 0, 'null'],
    ['a hole', Object.assign([1], { 2: 3 }), 1, 'undefined'],
    ['a bigint', [1n], 0, '1'],
    ['a negative value in an Int32Array', Int32Array.of(5, 6, -2), 2, '-2'],
  ])('%s, naming its place and value, and appends nothing', (_, tokens, index, value) => {
    const sequence = make()
    sequence.append(upTo(3))
    const error = errorOf('ERR_KV_INVALID_TOKEN', () => sequence.append(tokens as Tokens))
    expect(error.message).toContain(`Token ${index} is ${value};`)
    expect(sequence.tokenCount).toBe(3)
    sequence.append([3])
    sequence.hashBlocks()
    expect(blocksOf(sequence)).toEqual(hashesOf(upTo(4)))
  })

  it('a detached array', () => {
    const tokens = upTo(4)
    structuredClone(tokens.buffer, { transfer: [tokens.buffer as ArrayBuffer] })
    errorOf('ERR_KV_DETACHED_ARRAY', () => make().append(tokens))
    const signed = new Int32Array(4)
    structuredClone(signed.buffer, { transfer: [signed.buffer] })
    errorOf('ERR_KV_DETACHED_ARRAY', () => make().append(signed))
  })

  it('an array whose buffer was made smaller than the array', () => {
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(length: number): void }
    const buffer = new Resizable(64, { maxByteLength: 64 })
    const fixed = new Uint32Array(buffer, 0, 16)
    const tracking = new Uint32Array(buffer, 32)
    const whole = new Uint32Array(buffer)
    buffer.resize(16)
    errorOf('ERR_KV_DETACHED_ARRAY', () => make().append(fixed))
    errorOf('ERR_KV_DETACHED_ARRAY', () => make().append(tracking))
    const sequence = make()
    sequence.append(whole)
    expect(sequence.tokenCount).toBe(4)
  })

  it('nothing when an array is merely empty', () => {
    const sequence = make()
    sequence.append(new Uint32Array(0))
    sequence.append(new Int32Array(0))
    sequence.append([])
    expect(sequence.tokenCount).toBe(0)
  })

  it.each([
    [null],
    ['tokens'],
    [7],
    [new BigUint64Array(1)],
    [new Float64Array(1)],
    [new Uint8Array(1)],
    [{ length: 1 }],
  ])('%s, which is no array of tokens', (tokens) => {
    errorOf('ERR_KV_INVALID_TYPE', () => make().append(tokens as unknown as Tokens))
  })

  it('more tokens than a sequence may have', () => {
    const huge = { length: MAX_SEQUENCE_TOKENS + 1 }
    const tokens = new Proxy([] as number[], { get: (target, name) => Reflect.get({ ...target, ...huge }, name) })
    errorOf('ERR_KV_INVALID_VALUE', () => make().append(tokens))
  })
})

describe('options', () => {
  it.each([
    ['a short fingerprint', { fingerprint: new Uint8Array(31) }, 'ERR_KV_INVALID_VALUE', /fingerprint/],
    ['a salt that is text', { salt: 'x'.repeat(32) }, 'ERR_KV_INVALID_TYPE', /salt/],
    ['no tokens a block', { tokensPerBlock: 0 }, 'ERR_KV_INVALID_VALUE', /tokensPerBlock/],
    ['keys that are text', { extraKeys: 'lora' }, 'ERR_KV_INVALID_TYPE', /extraKeys must be an array/],
    ['a list of keys with a hole', { extraKeys: new Array(1) }, 'ERR_KV_INVALID_TYPE', /extraKeys\[0\]/],
    ['a list of image keys with a hole', { extraKeysAt: new Array(1) }, 'ERR_KV_INVALID_TYPE', /extraKeysAt\[0\]/],
    [
      'a misspelt field of an image key',
      { extraKeysAt: [{ token: 0, key: 'a', kye: 1 }] },
      'ERR_KV_INVALID_VALUE',
      /kye/,
    ],
    ['a key that is a number', { extraKeys: [7] }, 'ERR_KV_INVALID_TYPE', /extraKeys\[0\]/],
    ['a key that is too long', { extraKeys: [new Uint8Array(65_537)] }, 'ERR_KV_INVALID_VALUE', /65536 bytes/],
    ['image keys that are no list', { extraKeysAt: {} }, 'ERR_KV_INVALID_TYPE', /extraKeysAt/],
    ['an image without a place', { extraKeysAt: [{ key: 'a' }] }, 'ERR_KV_INVALID_TYPE', /\[0\]\.token/],
    ['an image at -1', { extraKeysAt: [{ token: -1, key: 'a' }] }, 'ERR_KV_INVALID_VALUE', /\[0\]\.token/],
    ['an image without a key', { extraKeysAt: [{ token: 0 }] }, 'ERR_KV_INVALID_TYPE', /\[0\]\.key/],
    ['null among the images', { extraKeysAt: [null] }, 'ERR_KV_INVALID_TYPE', /extraKeysAt\[0\] must be an object/],
  ] as const)('refuse %s', (_, changes, code, message) => {
    const options = changes as unknown as Partial<SequenceHashesOptions>
    expect(errorOf(code, () => make(options)).message).toMatch(message)
  })
})

describe('prepare', () => {
  const LONG = SYNC_TOKENS + 4

  it('hashes at once when few tokens wait', async () => {
    const hasher = heldHasher()
    const sequence = make({ hasher })
    sequence.append(upTo(SYNC_TOKENS + 3))
    await sequence.prepare()
    expect([hasher.started, sequence.hashedCount]).toEqual([0, SYNC_TOKENS / 4])
  })

  it('hashes on an engine thread when many wait, while tokens are appended', async () => {
    const hasher = heldHasher()
    const sequence = make({ hasher })
    const tokens = upTo(3 * LONG)
    sequence.append(tokens.subarray(0, LONG))
    const prepared = sequence.prepare()
    sequence.append(tokens.subarray(LONG))
    expect([hasher.started, sequence.hashedCount]).toEqual([1, 0])
    await hasher.release()
    await prepared
    expect(sequence.hashedCount).toBe(LONG / 4)
    sequence.hashBlocks()
    expect(blocksOf(sequence)).toEqual(hashesOf(tokens))
  })

  it('keeps what hashBlocks hashed meanwhile', async () => {
    const hasher = heldHasher()
    const sequence = make({ hasher })
    sequence.append(upTo(LONG))
    const prepared = sequence.prepare()
    sequence.append(upTo(LONG))
    sequence.hashBlocks()
    const before = blocksOf(sequence)
    await hasher.release()
    await prepared
    expect(blocksOf(sequence)).toEqual(before)
    expect(sequence.hashedCount).toBe((2 * LONG) / 4)
  })

  it('hashes each block once when it is called twice, and resolves each call when its own blocks are there', async () => {
    const hasher = heldHasher()
    const sequence = make({ hasher })
    sequence.append(upTo(LONG))
    const first = sequence.prepare()
    sequence.append(upTo(2 * LONG))
    const second = sequence.prepare()
    const third = sequence.prepare()
    await hasher.release()
    await first
    expect(sequence.hashedCount).toBe(LONG / 4)
    await hasher.release()
    await Promise.all([second, third])
    expect(hasher.started).toBe(2)
    expect(blocksOf(sequence)).toEqual(hashesOf([...upTo(LONG), ...upTo(2 * LONG)]))
  })

  it('gives blocks with images the hashes that hashBlocks gives them', async () => {
    const extraKeysAt = [0, 9, 5000, 5001, 9_000].map((token) => ({ token, key: `image ${token}` }))
    const sequence = make({ extraKeysAt })
    sequence.append(upTo(20_000))
    await sequence.prepare()
    expect(sequence.hashedCount).toBe(5_000)
    expect(blocksOf(sequence)).toEqual(hashesOf(upTo(20_000), { extraKeysAt }))
  })

  it('hands back a failure to the call it belongs to, and works again afterwards', async () => {
    let failures = 1
    const hasher: TokenHasher = {
      ...fallbackHasher,
      start: (...args) => (failures-- > 0 ? Promise.reject(new Error('no thread')) : fallbackHasher.start(...args)),
    }
    const sequence = make({ hasher })
    sequence.append(upTo(LONG))
    const [first, second] = await Promise.allSettled([sequence.prepare(), sequence.prepare()])
    expect([first.status, second.status]).toEqual(['rejected', 'fulfilled'])
    expect(sequence.hashedCount).toBe(LONG / 4)
  })

  it('refuses hashes of the wrong number', async () => {
    const hasher: TokenHasher = { ...fallbackHasher, start: async () => new Uint8Array(32) }
    const sequence = make({ hasher })
    sequence.append(upTo(LONG))
    await expect(sequence.prepare()).rejects.toMatchObject({ code: 'ERR_KV_INTERNAL' })
    expect(sequence.hashedCount).toBe(0)
  })
})
