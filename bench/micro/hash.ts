/** Hashing a prompt's tokens through the binding, one call, against a C loop over the same SHA-256. */
import { openBinding } from '../harness/native.js'
import type { BenchContext, Group, GroupSpec, Skipped } from '../harness/types.js'

const BLOCKS = 8_192
const TOKENS_PER_BLOCK = 16
const CALLS = 8
const NO_KEYS = new Uint8Array()

function open({ limits }: BenchContext): Group | Skipped {
  const native = openBinding()
  const parent = new Uint8Array(32).fill(7)
  const tokens = Uint32Array.from({ length: BLOCKS * TOKENS_PER_BLOCK }, (_, i) => (i * 2_654_435_761) >>> 15)
  const ours = new Uint8Array(BLOCKS * 32)
  const theirs = new Uint8Array(BLOCKS * 32)
  if (!native.canHashTokens() || !limits.hashTokens(parent, tokens, TOKENS_PER_BLOCK, theirs)) {
    return { skipped: "this process does not carry OpenSSL's SHA-256" }
  }
  native.hashTokens(parent, tokens, TOKENS_PER_BLOCK, NO_KEYS, ours)
  if (Buffer.compare(ours, theirs) !== 0) throw new Error('The limit does not compute the hashes of the binding.')

  const nanoseconds = (call: () => void): number => {
    const before = limits.threadCpuSeconds()
    for (let i = 0; i < CALLS; i++) call()
    return ((limits.threadCpuSeconds() - before) / (BLOCKS * CALLS)) * 1e9
  }
  return {
    rows: [
      {
        name: 'token hashing, a block',
        unit: 'ns',
        subject: 'binding',
        limit: { name: 'C loop over the same SHA-256', sample: 'loop' },
        better: 'lower',
        aim: { of: 'ratio', bound: 1.3 },
        parameters: { blocks: BLOCKS, tokensPerBlock: TOKENS_PER_BLOCK, callsPerRound: CALLS, clock: 'processor time' },
      },
    ],
    measures: [
      () => ({ binding: nanoseconds(() => native.hashTokens(parent, tokens, TOKENS_PER_BLOCK, NO_KEYS, ours)) }),
      () => ({ loop: nanoseconds(() => limits.hashTokens(parent, tokens, TOKENS_PER_BLOCK, theirs)) }),
    ],
    close: () => undefined,
  }
}

/** See the file's first lines. */
export const HASH: readonly GroupSpec[] = [{ suite: 'micro', name: 'token hashing', rounds: 11, open }]
