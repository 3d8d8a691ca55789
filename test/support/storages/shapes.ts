/** Layer groups of every form that a storage must hold, small enough for tests. */
import type { GroupShape } from '../../../lib/native/binding.ts'

/** A layer group and how many of its blocks a storage has room for. */
export interface Form {
  readonly name: string
  readonly shape: GroupShape
  readonly slotCount: number
  /** Whether a block is worth keeping without the one before it. */
  readonly keepOrphans: boolean
}

function form(
  name: string,
  [parts, layers, outer, tokensPerBlock, bytesPerToken]: readonly [number, number, number, number, number],
  slotCount: number,
  keepOrphans = false,
): Form {
  return { name, shape: { parts, layers, outer, tokensPerBlock, bytesPerToken }, slotCount, keepOrphans }
}

/** K and V of full attention: blocks of exactly three pages. */
export const FULL: Form = form('a full group', [1, 3, 2, 4, 512], 9)

/** Every form. */
export const FORMS: readonly Form[] = [
  FULL,
  form('a latent group on two devices', [2, 3, 1, 4, 1152], 7),
  form('a sliding group, half a page a block', [1, 2, 2, 4, 128], 9, true),
  form('a state of fixed size', [1, 2, 1, 1, 3000], 5, true),
  form('a stride of nearly twice the block', [1, 1, 1, 1, 4097], 6),
  form('blocks of an odd number of bytes', [2, 3, 2, 5, 77], 8),
  form('blocks of three checksum leaves, more than one disk operation holds', [1, 1, 2, 10, 9001], 12),
  form('one slot', [1, 2, 2, 4, 300], 1),
  form('many blocks of one byte', [1, 1, 1, 1, 1], 140),
]
