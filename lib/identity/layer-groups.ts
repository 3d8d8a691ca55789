/**
 * The shape of a model's KV: layer groups with their sizes in bytes, written by hand or derived by `layoutOf`. Pure
 * arithmetic; kvtier knows bytes, not values.
 */
import { integer, invalidType, invalidValue, KvError, optionsOf } from '../errors.js'
import type { GroupShape } from '../native/binding.js'
import { LIMITS } from '../native/generated.js'
import { SLOT_ALIGNMENT_BYTES } from '../native/sizes.js'

/**
 * How the layers of a group attend: to everything (`full`), to the last `windowTokens` tokens (`sliding`), through one
 * compressed vector a token (`latent`, MLA), or by a state of fixed size (`recurrent`).
 */
export type LayerKind = 'full' | 'sliding' | 'latent' | 'recurrent'

/** Layers that share attention kind, sizes and block table. */
export interface LayerGroup {
  /** Unique in its layout. */
  readonly name: string
  readonly kind: LayerKind
  /** How many layers the group has. */
  readonly layers: number
  /** Which layers of the model they are, ascending, where that is known. */
  readonly layerIndices?: readonly number[]
  /** 2 for K and V, 1 for a latent vector or a recurrent state. */
  readonly outer: 1 | 2
  /**
   * Bytes of one token in one layer's K (or V, or latent vector) in one part. For a `recurrent` group: bytes of one
   * layer's whole state, of which a block holds one snapshot.
   */
  readonly bytesPerToken: number
  /** `sliding` only: tokens that a new token sees, itself included. */
  readonly windowTokens?: number
  /** Devices of a tensor-parallel group that each hold a part of the block. */
  readonly parts: number
}

/** What a model's KV looks like; frozen. Made by `layoutOf` or {@link defineLayout}. */
export interface ModelLayout {
  /** Tokens that a block covers, in every group. */
  readonly tokensPerBlock: number
  /** At least one; a group's number is its place in this list. */
  readonly groups: readonly LayerGroup[]
  /**
   * Name of the element type. It belongs to the identity, for two types of the same width make the same sizes. `layoutOf`
   * fills it in.
   */
  readonly dtype?: string
}

/** A layer group as {@link defineLayout} takes it. */
export interface LayerGroupInput {
  readonly name: string
  readonly kind: LayerKind
  /** How many layers; may be left out when `layerIndices` is given. */
  readonly layers?: number
  readonly layerIndices?: readonly number[]
  /** Default: 2 for `full` and `sliding`, 1 for `latent` and `recurrent`. */
  readonly outer?: 1 | 2
  readonly bytesPerToken: number
  readonly windowTokens?: number
  /** Default 1. */
  readonly parts?: number
}

/** A layout as {@link defineLayout} takes it. */
export interface LayoutInput {
  readonly tokensPerBlock: number
  readonly groups: readonly LayerGroupInput[]
  readonly dtype?: string
}

/** Tokens a block may cover at most. */
export const MAX_TOKENS_PER_BLOCK = 65_536

const LAYOUT_FIELDS = ['tokensPerBlock', 'groups', 'dtype'] as const satisfies (keyof LayoutInput)[]
const GROUP_FIELDS = [
  'name',
  'kind',
  'layers',
  'layerIndices',
  'outer',
  'bytesPerToken',
  'windowTokens',
  'parts',
] as const satisfies (keyof LayerGroupInput)[]
const KINDS: readonly LayerKind[] = ['full', 'sliding', 'latent', 'recurrent']
const MAX_GROUPS = 64
const MAX_LAYERS = 65_536
const MAX_PARTS = 4_096
const MAX_WORD = 0xffffffff

function text(name: string, value: unknown): string {
  if (typeof value !== 'string') invalidType(name, 'a string', value)
  if (value === '' || value.length > 64) invalidValue(name, 'a string of 1 to 64 characters', value)
  return value
}

function readIndices(name: string, value: unknown, taken: Map<number, string>, group: string): readonly number[] {
  if (!Array.isArray(value)) invalidType(name, 'an array of layer numbers', value)
  const indices = value.map((entry, place) => integer(`${name}[${place}]`, entry, 0, MAX_LAYERS - 1))
  for (const index of indices) {
    const owner = taken.get(index)
    if (owner !== undefined) {
      throw new KvError(
        'ERR_KV_INVALID_VALUE',
        `${name}: layer ${index} is named twice (in '${owner}' and '${group}'); a layer belongs to one group.`,
      )
    }
    taken.set(index, group)
  }
  return Object.freeze(indices.sort((a, b) => a - b))
}

function readGroup(name: string, value: unknown, taken: Map<number, string>): LayerGroup {
  const given = optionsOf(name, value, GROUP_FIELDS)
  const groupName = text(`${name}.name`, given.name)
  const kind = KINDS.find((known) => known === given.kind)
  if (kind === undefined) invalidValue(`${name}.kind`, `one of ${KINDS.join(', ')}`, given.kind)

  const indices =
    given.layerIndices === undefined
      ? undefined
      : readIndices(`${name}.layerIndices`, given.layerIndices, taken, groupName)
  const layers = integer(`${name}.layers`, given.layers ?? indices?.length, 1, MAX_LAYERS)
  if (indices !== undefined && indices.length !== layers) {
    invalidValue(`${name}.layers`, `${indices.length}, the number of its layerIndices`, layers)
  }

  const outer = given.outer ?? (kind === 'full' || kind === 'sliding' ? 2 : 1)
  if (outer !== 1 && outer !== 2) invalidValue(`${name}.outer`, '1 or 2', outer)
  if (kind === 'sliding' && given.windowTokens === undefined) {
    invalidValue(`${name}.windowTokens`, 'given for a sliding group', given.windowTokens)
  }
  if (kind !== 'sliding' && given.windowTokens !== undefined) {
    invalidValue(`${name}.windowTokens`, `left out for a ${kind} group`, given.windowTokens)
  }
  return Object.freeze({
    name: groupName,
    kind,
    layers,
    ...(indices === undefined ? {} : { layerIndices: indices }),
    outer,
    bytesPerToken: integer(`${name}.bytesPerToken`, given.bytesPerToken, 1, MAX_WORD),
    ...(kind === 'sliding' ? { windowTokens: integer(`${name}.windowTokens`, given.windowTokens, 1, MAX_WORD) } : {}),
    parts: integer(`${name}.parts`, given.parts ?? 1, 1, MAX_PARTS),
  })
}

/**
 * Checks a layout that was written by hand and fills in its defaults. Element widths of any size are fine: a group says
 * its bytes a token.
 *
 * @example
 * ```ts
 * const layout = defineLayout({
 *   tokensPerBlock: 16,
 *   dtype: 'bf16',
 *   groups: [{ name: 'full', kind: 'full', layers: 32, bytesPerToken: 8 * 128 * 2 }],
 * })
 * ```
 * @returns the same layout, complete and frozen
 * @throws KvError ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE, naming the field
 */
export function defineLayout(input: LayoutInput): ModelLayout {
  const given = optionsOf('layout', input, LAYOUT_FIELDS)
  const tokensPerBlock = integer('layout.tokensPerBlock', given.tokensPerBlock, 1, MAX_TOKENS_PER_BLOCK)
  if (!Array.isArray(given.groups)) invalidType('layout.groups', 'an array of layer groups', given.groups)
  if (given.groups.length < 1 || given.groups.length > MAX_GROUPS) {
    invalidValue('layout.groups', `an array of 1 to ${MAX_GROUPS} layer groups`, `${given.groups.length} of them`)
  }
  const taken = new Map<number, string>()
  const groups = given.groups.map((group, place) => readGroup(`layout.groups[${place}]`, group, taken))
  const names = new Set<string>()
  for (const group of groups) {
    if (names.has(group.name)) invalidValue('layout.groups', 'groups with different names', group.name)
    names.add(group.name)
    const bytes = blockBytesOfShape(groupShapeOf(group, tokensPerBlock))
    if (bytes > LIMITS.maxBlockBytes) {
      throw new KvError(
        'ERR_KV_INVALID_VALUE',
        `A block of layer group '${group.name}' would have ${bytes} bytes; at most ${LIMITS.maxBlockBytes} fit. ` +
          'Use fewer tokens a block.',
      )
    }
  }
  const dtype = given.dtype === undefined ? undefined : text('layout.dtype', given.dtype)
  return Object.freeze({ tokensPerBlock, groups: Object.freeze(groups), ...(dtype === undefined ? {} : { dtype }) })
}

/** The shape in which native code sees a block of the group. A recurrent block is one snapshot: one long "token". */
export function groupShapeOf(group: LayerGroup, tokensPerBlock: number): GroupShape {
  return {
    parts: group.parts,
    layers: group.layers,
    outer: group.outer,
    tokensPerBlock: group.kind === 'recurrent' ? 1 : tokensPerBlock,
    bytesPerToken: group.bytesPerToken,
  }
}

/** Bytes of one block of that shape. */
export function blockBytesOfShape(shape: GroupShape): number {
  return shape.parts * shape.layers * shape.outer * shape.tokensPerBlock * shape.bytesPerToken
}

/** Bytes that a slot takes in host memory and on disk: the block, rounded up to 4 KiB. */
export function slotBytesOfShape(shape: GroupShape): number {
  return Math.ceil(blockBytesOfShape(shape) / SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
}

/** Bytes of one slot of every layer group together: what a capacity or a quota buys blocks by. */
export function slotBytesOf(layout: ModelLayout): number {
  return layout.groups.reduce((sum, group) => sum + slotBytesOfShape(groupShapeOf(group, layout.tokensPerBlock)), 0)
}

/** Bytes of one block of every layer group together, without rounding. */
export function blockBytesOf(layout: ModelLayout): number {
  return layout.groups.reduce((sum, group) => sum + blockBytesOfShape(groupShapeOf(group, layout.tokensPerBlock)), 0)
}

/**
 * Bytes that one token adds to the KV while it is inside every window, over all layers and parts. Recurrent groups add
 * none: their state does not grow.
 */
export function bytesPerTokenOf(layout: ModelLayout): number {
  return layout.groups
    .filter((group) => group.kind !== 'recurrent')
    .reduce((sum, group) => sum + group.layers * group.outer * group.bytesPerToken * group.parts, 0)
}
