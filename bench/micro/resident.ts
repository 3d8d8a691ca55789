/** A million blocks in the accounting of one layer group, as prompts of 8,192 blocks that share nothing. */
import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import type { SlabContents } from '../../lib/native/binding.js'
import { HOST } from '../../lib/tiers/types.js'
import { evenWords } from '../harness/words.js'

/** Blocks that are held. */
export const RESIDENT = 1_000_000
/** Blocks of one prompt: 128k tokens in blocks of 16. */
export const CHAIN = 8_192
/** Whole prompts among them. Going through all of them touches far more memory than caches hold. */
export const CHAINS: number = Math.floor(RESIDENT / CHAIN)

/** The accounting, and what it was asked to hold. */
export interface Resident {
  readonly blocks: GroupBlocks
  /** 8 words a block, prompt after prompt. */
  readonly hashes: Uint32Array
  /** The hashes of one prompt. */
  chain(number: number): Uint32Array
}

/** Makes the accounting hold {@link RESIDENT} blocks in host memory. */
export function residentBlocks(): Resident {
  const hashes = evenWords(RESIDENT * 8, 1)
  const none = new Uint32Array(RESIDENT)
  const contents: SlabContents = {
    hashes: new Uint8Array(hashes.buffer),
    slots: Uint32Array.from({ length: RESIDENT }, (_, i) => i),
    parents: Int32Array.from({ length: RESIDENT }, (_, i) => (i % CHAIN === 0 ? -1 : i - 1)),
    depths: Uint32Array.from({ length: RESIDENT }, (_, i) => i % CHAIN),
    tenantTags: none,
    priorities: none,
    expiresAtS: none,
    lastUsesS: Uint32Array.from({ length: RESIDENT }, (_, i) => 1_700_000_000 + Math.floor(i / CHAIN)),
    recordsRejected: 0,
    recordsSuperseded: 0,
    recordsOrphaned: 0,
    recordsUnreadable: 0,
  }
  const tiers = [{ slotCount: 0 }, { slotCount: RESIDENT }, { slotCount: 0 }]
  const blocks = new GroupBlocks({ tiers, policy: 'lru', prefixClosed: true })
  blocks.adopt(contents, 0, RESIDENT, HOST)
  return {
    blocks,
    hashes,
    chain: (number) => hashes.subarray(number * CHAIN * 8, (number + 1) * CHAIN * 8),
  }
}
