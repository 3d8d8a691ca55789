/**
 * From what an image of the engine's state shows to a layout: one layer group a section. Sizes are read, not derived from
 * the model's name, so that a layout is right wherever an image can be read.
 */
import { createHash } from 'node:crypto'
import { invalidValue, KvError } from '../../errors.js'
import { defineLayout, type LayerGroupInput, type ModelLayout } from '../../identity/model-layout.js'
import type { ImageSectionKind, ReadImage } from '../../native/image-binding.js'
import type { EngineModel } from './engine.js'

/** What a section of the state is to the block manager. */
export interface Section {
  /** Number of the section in an image, and of the layer group. */
  readonly index: number
  readonly kind: 'full' | 'latent' | 'sliding' | 'recurrent'
}

/** The sections that a model's state may have, the likeliest first: which one it is the image decides. */
export function candidateSections(model: EngineModel): readonly (readonly ImageSectionKind[])[] {
  const { isHybrid, isRecurrent, swaSize } = model.fileInsights
  const window = swaSize !== undefined && swaSize > 0
  const hybrid: ImageSectionKind[][] = window
    ? [['attention', 'attention', 'recurrent']]
    : [['attention', 'recurrent'], ['recurrent']]
  if (isHybrid || isRecurrent) return hybrid
  return window ? [['attention', 'attention'], ['attention']] : [['attention'], ['latent']]
}

/** Which section is what: of two with cells, the second has the layers that see a window. */
export function sectionsOf(kinds: readonly ImageSectionKind[]): readonly Section[] {
  return kinds.map((kind, index) => {
    if (kind === 'recurrent') return { index, kind }
    if (kind === 'latent') return { index, kind }
    return { index, kind: index === 0 ? 'full' : 'sliding' }
  })
}

const NAMES = { full: 'full', latent: 'latent', sliding: 'window', recurrent: 'state' } as const
const ROW_WORDS = 4

function groupOf(section: Section, image: ReadImage, windowTokens: number | undefined): LayerGroupInput {
  const read = image.sections[section.index]
  if (read === undefined) throw new KvError('ERR_KV_INTERNAL', `Section ${section.index} of an image was asked for.`)
  const { kind } = section
  const name = NAMES[kind]
  if (kind === 'recurrent') return { name, kind, layers: 1, bytesPerToken: read.bytesPerToken }
  const sliding = kind === 'sliding' ? { windowTokens: windowTokens ?? 1 } : {}
  const row = read.rows[1] ?? 0
  const same = read.rows.every((value, i) => i % ROW_WORDS === 0 || i % ROW_WORDS === 2 || value === row)
  // Rows of different sizes have no shape of their own: a token's bytes of all layers are one row then.
  if (!same) return { name, kind, layers: 1, outer: 1, bytesPerToken: read.bytesPerToken, ...sliding }
  return { name, kind, layers: read.layers, outer: 2, bytesPerToken: row, ...sliding }
}

/** The element types of every layer, and whether V is transposed, in a word: part of the identity. */
function dtypeOf(image: ReadImage): string {
  const types = image.sections.map(({ kind, rows, transposed }) => ({
    kind,
    transposed,
    keys: [...rows].filter((_, i) => i % ROW_WORDS === 0),
    values: [...rows].filter((_, i) => i % ROW_WORDS === 2),
  }))
  return `ggml ${createHash('sha256').update(JSON.stringify(types)).digest('hex').slice(0, 32)}`
}

/**
 * The layout of blocks of `tokensPerBlock` tokens that such images are cut into.
 *
 * @throws KvError ERR_KV_INVALID_VALUE where a window is no whole number of blocks: no state would have all of it
 */
export function layoutOfImage(
  model: EngineModel,
  image: ReadImage,
  kinds: readonly ImageSectionKind[],
  tokensPerBlock: number,
): ModelLayout {
  const { swaSize } = model.fileInsights
  const sections = sectionsOf(kinds)
  if (swaSize !== undefined && swaSize % tokensPerBlock !== 0 && sections.some(({ kind }) => kind === 'sliding')) {
    invalidValue('tokensPerBlock', `a number that divides the model's window of ${swaSize} tokens`, tokensPerBlock)
  }
  return defineLayout({
    tokensPerBlock,
    groups: sections.map((section) => groupOf(section, image, swaSize)),
    dtype: dtypeOf(image),
  })
}
