import { describe, expect, it } from 'vitest'

import { fallbackHasher, type HashBinding, makeTokenHasher } from '../../lib/identity/token-hasher.js'

const NO_EXTRA = new Uint8Array(0)

function fakeBinding(available: boolean): HashBinding & { readonly calls: string[] } {
  const calls: string[] = []
  return {
    calls,
    canHashTokens: () => available,
    hashTokens: (_parent, _tokens, _perBlock, _extra, hashes) => {
      calls.push('hashTokens')
      hashes.fill(1)
    },
    startHashTokens: (ticket, _parent, tokens) => {
      calls.push(`startHashTokens ${ticket} ${tokens.length}`)
    },
  }
}

describe('makeTokenHasher', () => {
  it('hashes with node:crypto where the addon finds no SHA-256', () => {
    const binding = fakeBinding(false)
    const hasher = makeTokenHasher(binding, () => Promise.reject(new Error('not called')))
    expect(hasher).toBe(fallbackHasher)
    expect(hasher.source).toBe('node')
    expect(binding.calls).toEqual([])
  })

  it('hashes in native code otherwise, starting calls with a ticket', async () => {
    const binding = fakeBinding(true)
    const result = new Uint8Array(32).fill(9)
    const hasher = makeTokenHasher(binding, async (start) => {
      start(77)
      return result as never
    })
    const hashes = new Uint8Array(32)
    hasher.hash(new Uint8Array(32), new Uint32Array(4), 4, NO_EXTRA, hashes)
    expect(hashes[0]).toBe(1)
    expect(await hasher.start(new Uint8Array(32), new Uint32Array(4), 4, NO_EXTRA)).toBe(result)
    expect(binding.calls).toEqual(['hashTokens', 'startHashTokens 77 4'])
    expect(hasher.source).toBe('openssl')
  })
})
