/**
 * The sequence hash chain by node:crypto, for processes that hide OpenSSL's symbols from the addon. Byte for byte what
 * native/digest/token_chain.h specifies: SHA-256("kvb1" | lp(parent) | lp(tokens) | lp(extra)), where lp is a 32-bit
 * little-endian length before the bytes, and tokens are 32-bit little-endian.
 */
import { hash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'

import { HASH_BYTES } from '../native/sizes.js'

const DOMAIN = Buffer.from('kvb1', 'latin1')
const BLOCKS_PER_TURN = 256

/** A 32-bit little-endian length. */
export function lengthPrefix(length: number): Uint8Array {
  const prefix = new Uint8Array(4)
  new DataView(prefix.buffer).setUint32(0, length, true)
  return prefix
}

const isLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

/** Writes the tokens as 32-bit little-endian words; a plain copy where memory has that order already. */
function writeTokens(target: Uint8Array, offset: number, tokens: Uint32Array): void {
  if (isLittleEndian) {
    target.set(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), offset)
    return
  }
  const view = new DataView(target.buffer, target.byteOffset + offset)
  tokens.forEach((token, place) => {
    view.setUint32(place * 4, token, true)
  })
}

/**
 * Writes `hashes.length / 32` sequence hashes, as `binding.hashTokens` does.
 *
 * @param parent - the hash before the first block; 32 bytes
 * @param tokens - whole blocks
 * @param extra - bound into every block of the call
 */
export function hashTokensFallback(
  parent: Uint8Array,
  tokens: Uint32Array,
  tokensPerBlock: number,
  extra: Uint8Array,
  hashes: Uint8Array,
): void {
  const blockCount = hashes.length / HASH_BYTES
  const fields = [DOMAIN, lengthPrefix(HASH_BYTES), parent, lengthPrefix(tokensPerBlock * 4)]
  const tokensAt = fields.reduce((sum, field) => sum + field.length, 0)
  const parentAt = tokensAt - 4 - HASH_BYTES
  // One text for all blocks; only parent and tokens change from one to the next.
  const text = Buffer.concat([...fields, new Uint8Array(tokensPerBlock * 4), lengthPrefix(extra.length), extra])
  for (let block = 0; block < blockCount; ++block) {
    writeTokens(text, tokensAt, tokens.subarray(block * tokensPerBlock, (block + 1) * tokensPerBlock))
    const digest = hash('sha256', text, 'buffer')
    hashes.set(digest, block * HASH_BYTES)
    text.set(digest, parentAt)
  }
}

/** The same for a long prompt: in slices, with the event loop's other work between them. The arguments are read at once. */
export async function hashTokensInSlices(
  parent: Uint8Array,
  tokens: Uint32Array,
  tokensPerBlock: number,
  extra: Uint8Array,
): Promise<Uint8Array> {
  const own = tokens.slice()
  const blockCount = Math.floor(own.length / tokensPerBlock)
  const hashes = new Uint8Array(blockCount * HASH_BYTES)
  let before = parent.slice()
  for (let first = 0; first < blockCount; first += BLOCKS_PER_TURN) {
    if (first > 0) await nextTurn()
    const end = Math.min(first + BLOCKS_PER_TURN, blockCount)
    const slice = hashes.subarray(first * HASH_BYTES, end * HASH_BYTES)
    hashTokensFallback(before, own.subarray(first * tokensPerBlock, end * tokensPerBlock), tokensPerBlock, extra, slice)
    before = slice.subarray(slice.length - HASH_BYTES)
  }
  return hashes
}
