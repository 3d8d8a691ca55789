import { Buffer } from 'node:buffer'
import { createHmac } from 'node:crypto'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { SHARED, saltOf, type Tenant, tenantTag } from '../../lib/identity/salt.js'
import { errorOf } from '../support/expect-code.js'

const SECRET = new Uint8Array(32).fill(7)
const hex = (tenant: Tenant, secret: Uint8Array = SECRET): string => Buffer.from(saltOf(secret, tenant)).toString('hex')

describe('saltOf', () => {
  it('is HMAC-SHA256 under the secret, with a domain of its own', () => {
    const expected = createHmac('sha256', SECRET).update('kvtier tenant salt 1: named\0a\0b\0', 'latin1').digest('hex')
    expect(hex('ab')).toBe(expected)
  })

  it('gives the shared tenant a salt that no name has', () => {
    for (const name of ['SHARED', 'shared', 'Symbol(kvtier.shared)', 'kvtier.shared']) {
      expect(hex(name)).not.toBe(hex(SHARED))
    }
  })

  it('tells any two names apart, lone surrogates and spaces included', () => {
    const name = fc.array(fc.nat(0xffff), { minLength: 1, maxLength: 3 }).map((units) => String.fromCharCode(...units))
    fc.assert(
      fc.property(name, name, (a, b) => {
        expect(hex(a) === hex(b)).toBe(a === b)
      }),
    )
    const odd = ['\ud800', '\ud801', '\ufffd', 'a', ' a', 'a ', 'A', 'a\0', '../a', '\u00e9', 'e\u0301']
    expect(new Set(odd.map((each) => hex(each))).size).toBe(odd.length)
  })

  it('changes with the secret', () => {
    expect(hex('a', new Uint8Array(32).fill(8))).not.toBe(hex('a'))
    expect(hex(SHARED, new Uint8Array(32).fill(8))).not.toBe(hex(SHARED))
  })

  it('takes names up to 1 KiB of UTF-8', () => {
    expect(hex('x'.repeat(1024))).toHaveLength(64)
    expect(hex('é'.repeat(512))).toHaveLength(64)
    errorOf('ERR_KV_INVALID_VALUE', () => saltOf(SECRET, 'x'.repeat(1025)))
    errorOf('ERR_KV_INVALID_VALUE', () => saltOf(SECRET, 'é'.repeat(513)))
  })

  it.each([
    ['no name', '', 'ERR_KV_INVALID_VALUE'],
    ['a tenant left out', undefined, 'ERR_KV_INVALID_TYPE'],
    ['null', null, 'ERR_KV_INVALID_TYPE'],
    ['a number', 7, 'ERR_KV_INVALID_TYPE'],
    ['another symbol', Symbol('kvtier.shared'), 'ERR_KV_INVALID_TYPE'],
  ] as const)('refuses %s', (_, tenant, code) => {
    expect(errorOf(code, () => saltOf(SECRET, tenant as unknown as Tenant)).message).toContain('tenant')
  })

  it('refuses a short secret, and one that is no bytes without showing it', () => {
    errorOf('ERR_KV_INVALID_VALUE', () => saltOf(new Uint8Array(15), 'a'))
    const wrong = 'correct horse battery' as unknown as Uint8Array
    expect(errorOf('ERR_KV_INVALID_TYPE', () => saltOf(wrong, 'a')).message).not.toContain('horse')
  })
})

describe('tenantTag', () => {
  it('is the first four bytes of the salt, little endian', () => {
    const bytes = Uint8Array.of(9, 9, 0x78, 0x56, 0x34, 0xf2, ...new Uint8Array(28))
    expect(tenantTag(bytes.subarray(2))).toBe(0xf2345678)
  })
})
