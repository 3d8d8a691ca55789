import vm from 'node:vm'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { canonicalJson } from '../../lib/identity/canonical-json.js'
import { errorOf } from '../support/expect-code.js'

describe('canonicalJson', () => {
  it('sorts keys at every level and leaves arrays alone', () => {
    const value = { b: [{ d: 1, c: [3, 1, 2] }], a: null, '': true }
    expect(canonicalJson(value, 'x')).toBe('{"":true,"a":null,"b":[{"c":[3,1,2],"d":1}]}')
  })

  it('reads back as the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value))
        expect(JSON.parse(canonicalJson(plain, 'x'))).toEqual(plain)
      }),
    )
  })

  it('takes plain objects of another realm and without prototype', () => {
    expect(canonicalJson(vm.runInNewContext('({ a: [1] })'), 'x')).toBe('{"a":[1]}')
    expect(canonicalJson(Object.assign(Object.create(null), { a: 1 }), 'x')).toBe('{"a":1}')
  })

  const cycle: unknown[] = []
  cycle.push(cycle)

  it.each([
    ['undefined', undefined],
    ['a hole', Object.assign([], { 1: 1 })],
    ['NaN', Number.NaN],
    ['an infinity', -Infinity],
    ['a bigint', 1n],
    ['a symbol', Symbol('s')],
    ['a function', () => 1],
    ['a Date', new Date(0)],
    ['a Map', new Map()],
    ['a typed array', new Uint8Array(1)],
    ['an object with an undefined field', { a: undefined }],
    ['a cycle', cycle],
  ])('refuses %s, which JSON would drop or change', (_, value) => {
    expect(errorOf('ERR_KV_INVALID_VALUE', () => canonicalJson({ value }, 'x')).message).toContain('x.value')
  })
})
