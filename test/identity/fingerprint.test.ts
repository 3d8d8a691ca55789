import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { canonicalJson } from '../../lib/identity/canonical-json.js'
import { type FingerprintInput, fingerprintOf } from '../../lib/identity/fingerprint.js'
import { defineLayout, type LayoutInput } from '../../lib/identity/layer-groups.js'
import { errorOf } from '../support/expect-code.js'

const LAYOUT: LayoutInput = {
  tokensPerBlock: 16,
  groups: [
    { name: 'full', kind: 'full', layerIndices: [0, 2], bytesPerToken: 128 },
    { name: 'sliding', kind: 'sliding', layerIndices: [1, 3], bytesPerToken: 128, windowTokens: 256 },
  ],
}

const INPUT: FingerprintInput = { model: 'm', layout: defineLayout(LAYOUT), dtype: 'bf16' }

const hex = (input: FingerprintInput): string => Buffer.from(fingerprintOf(input)).toString('hex')

function withGroup(changes: Record<string, unknown>): FingerprintInput {
  const [first, second] = LAYOUT.groups
  const groups = [{ ...first, ...changes }, second] as LayoutInput['groups']
  return { ...INPUT, layout: defineLayout({ ...LAYOUT, groups }) }
}

describe('fingerprintOf', () => {
  it('is SHA-256 over the canonical JSON of everything given', () => {
    const text =
      '{"dtype":"bf16","formatVersion":1,"groups":[' +
      '{"bytesPerToken":128,"kind":"full","layerIndices":[0,2],"layers":2,"name":"full","outer":2,"parts":1},' +
      '{"bytesPerToken":128,"kind":"sliding","layerIndices":[1,3],"layers":2,"name":"sliding","outer":2,"parts":1,' +
      '"windowTokens":256}],"model":"m","pipelineParallel":1,"revision":null,"tensorParallel":1,"tokensPerBlock":16}'
    expect(hex(INPUT)).toBe(createHash('sha256').update(`kvtier fingerprint\0${text}`).digest('hex'))
    expect(fingerprintOf(INPUT)).toHaveLength(32)
  })

  it('changes with every field', () => {
    const different: FingerprintInput[] = [
      INPUT,
      { ...INPUT, model: 'n' },
      { ...INPUT, revision: '' },
      { ...INPUT, revision: 'main' },
      { ...INPUT, dtype: 'f16' },
      { ...INPUT, rope: null },
      { ...INPUT, rope: {} },
      { ...INPUT, rope: { theta: 1 } },
      { ...INPUT, rope: { theta: '1' } },
      { ...INPUT, extra: { theta: 1 } },
      { ...INPUT, tensorParallel: 2 },
      { ...INPUT, pipelineParallel: 2 },
      { ...INPUT, layout: defineLayout({ ...LAYOUT, tokensPerBlock: 32 }) },
      { ...INPUT, layout: defineLayout({ ...LAYOUT, groups: LAYOUT.groups.slice(0, 1) }) },
      { ...INPUT, layout: defineLayout({ ...LAYOUT, groups: LAYOUT.groups.toReversed() }) },
      withGroup({ name: 'other' }),
      withGroup({ kind: 'latent' }),
      withGroup({ kind: 'latent', outer: 2 }),
      withGroup({ outer: 1 }),
      withGroup({ bytesPerToken: 129 }),
      withGroup({ parts: 2 }),
      withGroup({ layerIndices: [0, 4] }),
      withGroup({ layerIndices: undefined, layers: 2 }),
      withGroup({ kind: 'sliding', windowTokens: 128 }),
      withGroup({ kind: 'sliding', windowTokens: 129 }),
    ]
    expect(new Set(different.map(hex)).size).toBe(different.length)
  })

  it('is the same for the same fields in any order, and for defaults spelled out', () => {
    const reordered = { dtype: 'bf16', layout: INPUT.layout, model: 'm' }
    expect(hex(reordered)).toBe(hex(INPUT))
    expect(hex({ ...INPUT, tensorParallel: 1, pipelineParallel: 1 })).toBe(hex(INPUT))
    expect(hex({ ...INPUT, rope: { b: [1], a: 2 } })).toBe(hex({ ...INPUT, rope: { a: 2, b: [1] } }))
  })

  it('takes the dtype of the layout where none is given', () => {
    const layout = defineLayout({ ...LAYOUT, dtype: 'bf16' })
    expect(hex({ model: 'm', layout })).toBe(hex(INPUT))
    expect(hex({ model: 'm', layout: defineLayout(LAYOUT) })).not.toBe(hex(INPUT))
  })

  it('tells any two models and any two extras apart', () => {
    const name = fc.array(fc.nat(0xffff), { minLength: 1, maxLength: 3 }).map((units) => String.fromCharCode(...units))
    fc.assert(
      fc.property(name, name, (a, b) => {
        expect(hex({ ...INPUT, model: a }) === hex({ ...INPUT, model: b })).toBe(a === b)
      }),
    )
    const json = fc.jsonValue()
    fc.assert(
      fc.property(json, json, (a, b) => {
        const same = canonicalJson(a, 'a') === canonicalJson(b, 'b')
        expect(hex({ ...INPUT, extra: a }) === hex({ ...INPUT, extra: b })).toBe(same)
      }),
    )
  })

  it('tells lone surrogates apart', () => {
    expect(hex({ ...INPUT, model: '\ud800' })).not.toBe(hex({ ...INPUT, model: '\ud801' }))
  })

  it.each([
    ['no model', { model: '' }, 'ERR_KV_INVALID_VALUE', /model/],
    ['a model that is a number', { model: 7 }, 'ERR_KV_INVALID_TYPE', /model/],
    ['a misspelt field', { revison: 'x' }, 'ERR_KV_INVALID_VALUE', /revison/],
    ['a revision that is a number', { revision: 7 }, 'ERR_KV_INVALID_TYPE', /revision/],
    ['zero devices', { tensorParallel: 0 }, 'ERR_KV_INVALID_VALUE', /tensorParallel/],
    ['NaN in rope', { rope: { theta: Number.NaN } }, 'ERR_KV_INVALID_VALUE', /identity\.rope\.theta is the number NaN/],
    ['undefined in extra', { extra: [undefined] }, 'ERR_KV_INVALID_VALUE', /identity\.extra\[0\] is of type undefined/],
    ['a layout that is none', { layout: {} }, 'ERR_KV_INVALID_TYPE', /tokensPerBlock/],
  ] as const)('refuses %s', (_, changes, code, message) => {
    const input = { ...INPUT, ...changes } as unknown as FingerprintInput
    expect(errorOf(code, () => fingerprintOf(input)).message).toMatch(message)
  })
})
