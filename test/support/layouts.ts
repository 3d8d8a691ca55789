/** Layouts of every shape that the manager must move, small enough for tests. All have 4 tokens a block. */
import { defineLayout, groupShapeOf, type ModelLayout, slotBytesOfShape } from '../../lib/identity/model-layout.ts'
import { TEST_LAYOUT } from './manager.ts'

/** Full attention beside a window of 6 tokens, as in GPT-OSS: a prefix of n blocks needs the window blocks before n. */
export const WINDOWED: ModelLayout = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [
    { name: 'full', kind: 'full', layers: 2, bytesPerToken: 512 },
    { name: 'sliding', kind: 'sliding', layers: 3, bytesPerToken: 256, windowTokens: 6 },
  ],
})

/** Full attention, a window, and layers with a state of fixed size. */
export const HYBRID: ModelLayout = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [
    { name: 'full', kind: 'full', layers: 1, bytesPerToken: 512 },
    { name: 'sliding', kind: 'sliding', layers: 2, bytesPerToken: 128, windowTokens: 5 },
    { name: 'state', kind: 'recurrent', layers: 2, bytesPerToken: 3000 },
  ],
})

/** One compressed vector a token (MLA), over two devices. */
export const LATENT: ModelLayout = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [{ name: 'latent', kind: 'latent', layers: 3, bytesPerToken: 1152, parts: 2 }],
})

/** Sizes that are multiples of nothing. */
export const ODD: ModelLayout = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [{ name: 'odd', kind: 'full', layers: 3, bytesPerToken: 77, parts: 2 }],
})

/** All of them, with what they show. */
export const LAYOUTS: readonly (readonly [string, ModelLayout])[] = [
  ['full attention', TEST_LAYOUT],
  ['full attention and a window', WINDOWED],
  ['full attention, a window and a state', HYBRID],
  ['latent vectors over two devices', LATENT],
  ['odd sizes over two devices', ODD],
]

/** Bytes that one block of every layer group takes in host memory. */
export function strideOf(layout: ModelLayout): number {
  return layout.groups.reduce((sum, group) => sum + slotBytesOfShape(groupShapeOf(group, layout.tokensPerBlock)), 0)
}

/** Bytes that one block of every layer group takes on disk, its record included. */
export function diskStrideOf(layout: ModelLayout): number {
  return strideOf(layout) + 128 * layout.groups.length
}
