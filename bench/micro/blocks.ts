/**
 * The accounting of blocks with a million of them resident, prompts in turn so that caches do not hold them: prefix match,
 * its length only, and what holding a matched prefix costs.
 */
import { HOST } from '../../lib/tiers/types.js'
import type { BenchContext, Group, GroupSpec } from '../harness/types.js'
import { CHAIN, CHAINS, RESIDENT, residentBlocks } from './resident.js'

/** Prompts whose blocks are pinned in a round; a match costs less, and all are matched. */
const PINNED_CHAINS = 40

function open({ limits }: BenchContext): Group {
  const { blocks, hashes, chain } = residentBlocks()
  const table = limits.openTable(new Uint8Array(hashes.buffer))
  const entries = new Int32Array(CHAIN)
  const counts = new Uint16Array(RESIDENT)
  const uses = new Float64Array(RESIDENT)
  let tick = 1

  const nanoseconds = (chains: number, work: (number: number) => void, per: number): number => {
    const before = limits.threadCpuSeconds()
    for (let number = 0; number < chains; number++) work(number)
    return ((limits.threadCpuSeconds() - before) / (chains * per)) * 1e9
  }
  const expect = (found: number): void => {
    if (found !== CHAIN) throw new Error(`${found} of ${CHAIN} blocks were found.`)
  }
  const lookUp = (number: number): void => {
    const words = chain(number)
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
    expect(limits.findLeading(table, bytes, entries))
  }
  const hold = (number: number): void => {
    expect(blocks.walk(chain(number), CHAIN, entries, 0))
    for (let i = 0; i < CHAIN; i++) blocks.pin(entries[i] ?? -1, HOST)
    blocks.touch(entries, CHAIN, ++tick)
    for (let i = 0; i < CHAIN; i++) blocks.unpin(entries[i] ?? -1, HOST)
  }
  const holdPlainly = (number: number): void => {
    expect(blocks.walk(chain(number), CHAIN, entries, 0))
    ++tick
    for (let i = 0; i < CHAIN; i++) counts[entries[i] ?? 0]!++
    for (let i = 0; i < CHAIN; i++) uses[entries[i] ?? 0] = tick
    for (let i = 0; i < CHAIN; i++) counts[entries[i] ?? 0]!--
  }

  const parameters = { resident: RESIDENT, blocks: CHAIN, prompts: CHAINS, cold: true, clock: 'processor time' }
  return {
    rows: [
      {
        name: 'prefix match, a block',
        unit: 'ns',
        subject: 'walk',
        limit: { name: 'native table with prefetch, the same keys', sample: 'table' },
        better: 'lower',
        aim: { of: 'ratio', bound: 6 },
        parameters,
      },
      {
        name: 'prefix match, length only, a prompt',
        unit: 'ns',
        subject: 'gallop',
        limit: { name: 'the match that walks every block', sample: 'walkPrompt' },
        better: 'lower',
        aim: { of: 'ratio', bound: 0.05 },
        parameters,
      },
      {
        name: 'match, pin, touch, unpin, a block',
        unit: 'ns',
        subject: 'hold',
        limit: { name: 'match, then count up, write a tick, count down in typed arrays', sample: 'holdPlainly' },
        better: 'lower',
        aim: null,
        parameters: { ...parameters, prompts: PINNED_CHAINS },
      },
    ],
    measures: [
      () => {
        const walk = nanoseconds(CHAINS, (number) => expect(blocks.walk(chain(number), CHAIN, entries, 0)), CHAIN)
        return { walk, walkPrompt: walk * CHAIN }
      },
      () => ({ table: nanoseconds(CHAINS, lookUp, CHAIN) }),
      () => ({ gallop: nanoseconds(CHAINS, (number) => expect(blocks.gallop(chain(number), CHAIN, 0)), 1) }),
      () => ({ hold: nanoseconds(PINNED_CHAINS, hold, CHAIN) }),
      () => ({ holdPlainly: nanoseconds(PINNED_CHAINS, holdPlainly, CHAIN) }),
    ],
    close: () => limits.close(table),
  }
}

/** See the file's first lines. */
export const BLOCKS: readonly GroupSpec[] = [{ suite: 'micro', name: 'accounting of blocks', rounds: 7, open }]
