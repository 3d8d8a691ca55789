/**
 * Where a prompt parts from others: what is stored behind the tokens that they share helps neither, but the place does.
 */

import { type MovementContext, nowSeconds } from './context.js'

/**
 * The blocks of a prompt behind which its tokens part from others that are stored: full and latent groups hold it up to
 * there, and hold something else behind. Whether windows and states are held there is another question. A hint: what was
 * expired may hide the place.
 *
 * @param words - hashes of the prompt's blocks
 * @param count - how many they are
 * @returns 0 where nothing else begins with the prompt's first block, and where all of the prompt is held
 */
export function partingOf(context: MovementContext, words: Uint32Array, count: number): number {
  const nowS = nowSeconds(context)
  const closed = context.groups.filter(({ blocks }) => blocks.prefixClosed)
  const at = Math.min(count, ...closed.map(({ blocks }) => blocks.gallop(words, count, nowS)))
  if (at === 0 || at === count) return 0
  // The prompt's own next block may be on its way, or expired: that is no other's.
  const parts = closed.some(({ blocks }) => blocks.find(words, at) < 0 && blocks.hasChild(blocks.find(words, at - 1)))
  return parts ? at : 0
}
