import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { hashTokensFallback, hashTokensInSlices } from '../../lib/identity/hash-fallback.js'

/** The chain once more, from the words of native/digest/token_chain.h, in one buffer a block. */
function expectedChain(parent: Uint8Array, tokens: readonly number[], perBlock: number, extra: Uint8Array): Uint8Array {
  const hashes: Buffer[] = []
  const prefixed = (bytes: Uint8Array): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    return Buffer.concat([length, bytes])
  }
  for (let first = 0; first + perBlock <= tokens.length; first += perBlock) {
    const words = Buffer.alloc(perBlock * 4)
    for (let place = 0; place < perBlock; ++place) words.writeUInt32LE(tokens[first + place]!, place * 4)
    const before = hashes.at(-1) ?? parent
    const text = Buffer.concat([Buffer.from('kvb1'), prefixed(before), prefixed(words), prefixed(extra)])
    hashes.push(createHash('sha256').update(text).digest())
  }
  return new Uint8Array(Buffer.concat(hashes))
}

const hash32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
const token = fc.nat(0xffffffff)

describe('hashTokensFallback', () => {
  it('writes the chain that token_chain.h specifies', () => {
    fc.assert(
      fc.property(
        hash32,
        fc.integer({ min: 1, max: 9 }),
        fc.array(token, { maxLength: 60 }),
        fc.uint8Array({ maxLength: 40 }),
        (parent, perBlock, tokens, extra) => {
          const blocks = Math.floor(tokens.length / perBlock)
          const hashes = new Uint8Array(blocks * 32)
          hashTokensFallback(parent, Uint32Array.from(tokens), perBlock, extra, hashes)
          expect(hashes).toEqual(expectedChain(parent, tokens, perBlock, extra))
        },
      ),
    )
  })

  it('reads a view in the middle of a buffer', () => {
    const tokens = Uint32Array.of(9, 1, 2, 3, 4, 9)
    const hashes = new Uint8Array(64)
    hashTokensFallback(new Uint8Array(32), tokens.subarray(1, 5), 2, new Uint8Array(0), hashes)
    expect(hashes).toEqual(expectedChain(new Uint8Array(32), [1, 2, 3, 4], 2, new Uint8Array(0)))
  })
})

describe('hashTokensInSlices', () => {
  it('gives the same hashes, whatever happens to its arguments meanwhile', async () => {
    const parent = new Uint8Array(32).fill(3)
    const tokens = Uint32Array.from({ length: 4 * 700 }, (_, place) => place * 7)
    const extra = Uint8Array.of(1, 2)
    const expected = new Uint8Array(700 * 32)
    hashTokensFallback(parent, tokens, 4, extra, expected)
    const promise = hashTokensInSlices(parent, tokens, 4, extra)
    parent.fill(0)
    tokens.fill(0)
    expect(await promise).toEqual(expected)
  })

  it('lets the event loop turn between slices', async () => {
    let turns = 0
    const timer = setImmediate(function count() {
      ++turns
      setImmediate(count).unref()
    })
    await hashTokensInSlices(new Uint8Array(32), new Uint32Array(1024), 1, new Uint8Array(0))
    clearImmediate(timer)
    expect(turns).toBeGreaterThanOrEqual(3)
  })
})
