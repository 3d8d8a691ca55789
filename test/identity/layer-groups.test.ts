import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import {
  blockBytesOf,
  blockBytesOfShape,
  bytesPerTokenOf,
  defineLayout,
  groupShapeOf,
  type LayerGroupInput,
  type LayoutInput,
  slotBytesOfShape,
} from '../../lib/identity/layer-groups.js'
import { errorOf } from '../support/expect-code.js'

const GROUP: LayerGroupInput = { name: 'full', kind: 'full', layers: 4, bytesPerToken: 100 }
const LAYOUT: LayoutInput = { tokensPerBlock: 16, groups: [GROUP] }

describe('defineLayout', () => {
  it('fills in planes and parts, and freezes what it returns', () => {
    const layout = defineLayout({
      tokensPerBlock: 16,
      groups: [
        GROUP,
        { name: 'window', kind: 'sliding', layerIndices: [5, 4], bytesPerToken: 100, windowTokens: 128 },
        { name: 'latent', kind: 'latent', layers: 2, bytesPerToken: 576 },
        { name: 'state', kind: 'recurrent', layers: 3, bytesPerToken: 5000, parts: 2 },
      ],
    })
    expect(layout.groups.map((group) => [group.outer, group.parts, group.layers])).toEqual([
      [2, 1, 4],
      [2, 1, 2],
      [1, 1, 2],
      [1, 2, 3],
    ])
    expect(layout.groups[1]?.layerIndices).toEqual([4, 5])
    expect(Object.isFrozen(layout) && Object.isFrozen(layout.groups) && layout.groups.every(Object.isFrozen)).toBe(true)
  })

  it('does not change when it reads its own result', () => {
    const layout = defineLayout({ ...LAYOUT, dtype: 'bf16' })
    expect(defineLayout(layout)).toEqual(layout)
  })

  it('counts any element width', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 512 }),
        fc.integer({ min: 1, max: 64 }),
        fc.constantFrom(1 as const, 2 as const),
        fc.integer({ min: 1, max: 4099 }),
        fc.integer({ min: 1, max: 4 }),
        (tokensPerBlock, layers, outer, bytesPerToken, parts) => {
          const bytes = tokensPerBlock * layers * outer * bytesPerToken * parts
          fc.pre(bytes <= 2 ** 30)
          const layout = defineLayout({
            tokensPerBlock,
            groups: [{ name: 'g', kind: 'full', layers, outer, bytesPerToken, parts }],
          })
          const shape = groupShapeOf(layout.groups[0]!, tokensPerBlock)
          expect(blockBytesOfShape(shape)).toBe(bytes)
          expect(blockBytesOf(layout)).toBe(bytes)
          expect(bytesPerTokenOf(layout) * tokensPerBlock).toBe(bytes)
          expect(slotBytesOfShape(shape) % 4096).toBe(0)
          expect(slotBytesOfShape(shape) - bytes).toBeGreaterThanOrEqual(0)
          expect(slotBytesOfShape(shape) - bytes).toBeLessThan(4096)
        },
      ),
    )
  })

  it('makes a recurrent block one snapshot that adds nothing a token', () => {
    const layout = defineLayout({
      tokensPerBlock: 64,
      groups: [GROUP, { name: 'state', kind: 'recurrent', layers: 3, bytesPerToken: 5000 }],
    })
    expect(blockBytesOfShape(groupShapeOf(layout.groups[1]!, 64))).toBe(15_000)
    expect(bytesPerTokenOf(layout)).toBe(800)
  })

  const group = (changes: Record<string, unknown>): unknown => ({ ...LAYOUT, groups: [{ ...GROUP, ...changes }] })

  it.each([
    ['no object', null, 'ERR_KV_INVALID_TYPE', /layout must be an object/],
    ['no groups', { tokensPerBlock: 16 }, 'ERR_KV_INVALID_TYPE', /layout\.groups/],
    ['an empty list of groups', { tokensPerBlock: 16, groups: [] }, 'ERR_KV_INVALID_VALUE', /1 to 64 layer groups/],
    ['a group that is none', { tokensPerBlock: 16, groups: [7] }, 'ERR_KV_INVALID_TYPE', /groups\[0\]/],
    ['tokens a block of 0', { ...LAYOUT, tokensPerBlock: 0 }, 'ERR_KV_INVALID_VALUE', /tokensPerBlock/],
    ['tokens a block of 1.5', { ...LAYOUT, tokensPerBlock: 1.5 }, 'ERR_KV_INVALID_VALUE', /tokensPerBlock/],
    ['tokens a block of NaN', { ...LAYOUT, tokensPerBlock: Number.NaN }, 'ERR_KV_INVALID_VALUE', /tokensPerBlock/],
    ['two groups of one name', { ...LAYOUT, groups: [GROUP, GROUP] }, 'ERR_KV_INVALID_VALUE', /different names/],
    ['a group without name', group({ name: '' }), 'ERR_KV_INVALID_VALUE', /groups\[0\]\.name/],
    ['a name that is a number', group({ name: 1 }), 'ERR_KV_INVALID_TYPE', /groups\[0\]\.name/],
    ['an unknown kind', group({ kind: 'cross' }), 'ERR_KV_INVALID_VALUE', /kind must be one of full/],
    ['no layers', group({ layers: 0 }), 'ERR_KV_INVALID_VALUE', /layers/],
    ['layers left out', group({ layers: undefined }), 'ERR_KV_INVALID_TYPE', /layers/],
    ['layers that contradict their numbers', group({ layerIndices: [1, 2] }), 'ERR_KV_INVALID_VALUE', /2, the number/],
    [
      'a layer named twice',
      group({ layers: undefined, layerIndices: [1, 1] }),
      'ERR_KV_INVALID_VALUE',
      /layer 1 .*twice/,
    ],
    ['a negative layer', group({ layers: undefined, layerIndices: [-1] }), 'ERR_KV_INVALID_VALUE', /layerIndices\[0\]/],
    ['layer numbers that are no list', group({ layerIndices: 3 }), 'ERR_KV_INVALID_TYPE', /layerIndices/],
    ['three planes', group({ outer: 3 }), 'ERR_KV_INVALID_VALUE', /outer must be 1 or 2/],
    ['no bytes a token', group({ bytesPerToken: 0 }), 'ERR_KV_INVALID_VALUE', /bytesPerToken/],
    ['no parts', group({ parts: 0 }), 'ERR_KV_INVALID_VALUE', /parts/],
    ['a window without a size', group({ kind: 'sliding' }), 'ERR_KV_INVALID_VALUE', /windowTokens/],
    ['a window of full attention', group({ windowTokens: 128 }), 'ERR_KV_INVALID_VALUE', /left out for a full group/],
    ['a block beyond 1 GiB', group({ bytesPerToken: 2 ** 25 }), 'ERR_KV_INVALID_VALUE', /fewer tokens a block/],
    [
      'a misspelt field',
      { ...LAYOUT, group: [] },
      'ERR_KV_INVALID_VALUE',
      /layout\.group is unknown\. Did you mean 'groups'/,
    ],
    ['a misspelt field of a group', group({ part: 2 }), 'ERR_KV_INVALID_VALUE', /groups\[0\]\.part/],
    ['a dtype that is a number', { ...LAYOUT, dtype: 16 }, 'ERR_KV_INVALID_TYPE', /layout\.dtype/],
  ] as const)('refuses %s', (_, input, code, message) => {
    expect(errorOf(code, () => defineLayout(input as LayoutInput)).message).toMatch(message)
  })
})
