import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { SequenceHashes, SYNC_TOKENS } from '../../lib/identity/sequence-hashes.js'
import { fallbackHasher, makeTokenHasher } from '../../lib/identity/token-hasher.js'
import { binding } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'

const done = completions()
binding.openEngine({ threads: 2, readBytesInFlight: 1 << 20, writeBytesInFlight: 1 << 20, queueBlocks: 64 })
const native = makeTokenHasher(binding, (start) => done.call(start))

/** Sequences that differ in nothing but what hashes them. */
function pair(tokensPerBlock: number, extraKeysAt: readonly { token: number; key: string }[] = []) {
  const options = {
    fingerprint: new Uint8Array(32).fill(3),
    salt: new Uint8Array(32).fill(4),
    tokensPerBlock,
    extraKeysAt,
  }
  return [
    new SequenceHashes({ ...options, hasher: native }),
    new SequenceHashes({ ...options, hasher: fallbackHasher }),
  ] as const
}

describe('the addon’s token hashes', () => {
  it('come from native code in this process', () => {
    expect(native.source).toBe('openssl')
  })

  it('are byte for byte those of node:crypto, on the JavaScript thread and on an engine thread', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.integer({ min: 1, max: 40 }),
        fc.array(fc.nat(0xffffffff), { maxLength: 200 }),
        fc.uint8Array({ maxLength: 100 }),
        async (parent, perBlock, list, extra) => {
          const blocks = Math.floor(list.length / perBlock)
          const tokens = Uint32Array.from(list.slice(0, blocks * perBlock))
          const expected = new Uint8Array(blocks * 32)
          fallbackHasher.hash(parent, tokens, perBlock, extra, expected)
          const hashes = new Uint8Array(blocks * 32)
          native.hash(parent, tokens, perBlock, extra, hashes)
          expect(hashes).toEqual(expected)
          expect(await native.start(parent, tokens, perBlock, extra)).toEqual(expected)
        },
      ),
    )
  })

  it('make the same sequence, with images, in one piece and while it grows', async () => {
    const tokens = Uint32Array.from({ length: 3 * SYNC_TOKENS }, (_, place) => (place * 2_654_435_761) >>> 0)
    const [grown, expected] = pair(16, [
      { token: 5, key: 'a' },
      { token: 5_000, key: 'b' },
    ])
    grown.append(tokens.subarray(0, 2 * SYNC_TOKENS))
    const prepared = grown.prepare()
    grown.append(tokens.subarray(2 * SYNC_TOKENS))
    await prepared
    grown.hashBlocks()
    expected.append(tokens)
    expected.hashBlocks()
    expect(grown.bytes).toEqual(expected.bytes)
    expect(grown.hashedCount).toBe((3 * SYNC_TOKENS) / 16)
  })
})
