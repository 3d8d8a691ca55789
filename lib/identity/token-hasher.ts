/**
 * What hashes tokens: the addon where it can, node:crypto where the addon cannot reach SHA-256. Both write the same bytes.
 */
import type { Binding } from '../native/binding.js'
import { hashTokensFallback, hashTokensInSlices } from './hash-fallback.js'

/** Hashes whole blocks of tokens into a chain; see native/digest/token_chain.h. */
export interface TokenHasher {
  /** `openssl`: in native code; `node`: node:crypto on the JavaScript thread. */
  readonly source: 'openssl' | 'node'
  /** Writes `hashes.length / 32` hashes before it returns. `extra` is bound into each block. */
  hash(parent: Uint8Array, tokens: Uint32Array, tokensPerBlock: number, extra: Uint8Array, hashes: Uint8Array): void
  /** The same without holding up the event loop. The arguments are read before it returns. */
  start(parent: Uint8Array, tokens: Uint32Array, tokensPerBlock: number, extra: Uint8Array): Promise<Uint8Array>
}

/** The part of the addon that hashing needs. */
export type HashBinding = Pick<Binding, 'canHashTokens' | 'hashTokens' | 'startHashTokens'>

/** Runs a started call of the addon: gives it a ticket and resolves with its result. */
export type CallWithTicket = <T>(start: (ticket: number) => void) => Promise<T>

/** Hashes with node:crypto; needs no addon. */
export const fallbackHasher: TokenHasher = {
  source: 'node',
  hash: hashTokensFallback,
  start: hashTokensInSlices,
}

/** The best hasher of this process: native code, or {@link fallbackHasher} where the addon finds no SHA-256. */
export function makeTokenHasher(binding: HashBinding, call: CallWithTicket): TokenHasher {
  if (!binding.canHashTokens()) return fallbackHasher
  return {
    source: 'openssl',
    hash: (parent, tokens, tokensPerBlock, extra, hashes) => {
      binding.hashTokens(parent, tokens, tokensPerBlock, extra, hashes)
    },
    start: (parent, tokens, tokensPerBlock, extra) =>
      call<Uint8Array>((ticket) => binding.startHashTokens(ticket, parent, tokens, tokensPerBlock, extra)),
  }
}
