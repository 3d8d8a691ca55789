import { expect, test } from 'vitest'
import { BlockManager } from '../../../lib/block-manager.ts'
import { storeState } from '../../../lib/connectors/node-llama-cpp/offload.ts'
import { TrackedSequence } from '../../../lib/connectors/node-llama-cpp/tracked-sequence.ts'
import { KvError } from '../../../lib/errors.ts'
import { defineLayout } from '../../../lib/identity/model-layout.ts'
import { BLOCKS_PER_TURN } from '../../../lib/movement/context.ts'
import { strideOf } from '../../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withManager } from '../../support/manager.ts'
import { expectQuiet } from '../../support/outcomes.ts'
import { BLOCK, contextOf } from './fake-cache.ts'
import { FakeSequence } from './fake-sequence.ts'

/** Blocks: the last of three parts is a short one. */
const LONG = 2 * BLOCKS_PER_TURN + 7

const WINDOW_OF_8 = defineLayout({
  tokensPerBlock: BLOCK,
  dtype: 'test',
  groups: [
    { name: 'full', kind: 'full', layers: 2, bytesPerToken: 512 },
    { name: 'window', kind: 'sliding', layers: 2, bytesPerToken: 512, windowTokens: 8 },
  ],
})

function watch(sequence: FakeSequence): TrackedSequence {
  const nothing = (): void => undefined
  return new TrackedSequence(sequence, { onIdle: nothing, onEmpty: nothing, onPrefill: nothing, adapt: null })
}

/** A sequence of 8 blocks under watch, and a manager with host memory for 4 of them, and disk. */
async function withSmallHost(
  run: (parts: { manager: BlockManager; sequence: FakeSequence; tracked: TrackedSequence }) => Promise<void>,
): Promise<void> {
  await withManager({ host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
    const sequence = new FakeSequence()
    const tracked = watch(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens([...tokens(1, 8 * BLOCK)])
    await run({ manager, sequence, tracked })
    expectQuiet(manager)
  })
}

test('a state larger than host memory is stored in rounds', async () => {
  await withSmallHost(async ({ manager, sequence, tracked }) => {
    const cuts: number[] = []
    const context = contextOf(manager, sequence, (blocks) => cuts.push(blocks))
    expect(await storeState(context, tracked, { tenant: 'a' }, {})).toMatchObject({
      tokens: 8 * BLOCK,
      blocks: 8,
      message: '',
    })
    expect(cuts.length).toBeGreaterThan(1)
    expect(context.counters).toMatchObject({ saves: 1, blocksStored: 8 })
  })
})

/** A sequence of more blocks than are stored in one turn of the event loop, and host memory for all of them. */
async function withLongState(
  run: (parts: { manager: BlockManager; sequence: FakeSequence; tracked: TrackedSequence }) => Promise<void>,
): Promise<void> {
  await withManager({ host: { capacityBytes: LONG * TEST_STRIDE } }, async (manager) => {
    const sequence = new FakeSequence()
    const tracked = watch(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens([...tokens(1, LONG * BLOCK)])
    await run({ manager, sequence, tracked })
    expectQuiet(manager)
  })
}

test('a long state is saved once, cut once and stored once', async () => {
  await withLongState(async ({ manager, sequence, tracked }) => {
    const cuts: number[] = []
    const context = contextOf(manager, sequence, (blocks) => cuts.push(blocks))
    const whole = { tokens: LONG * BLOCK, message: '' }
    expect(await storeState(context, tracked, { tenant: 'a' }, {})).toMatchObject({ ...whole, blocks: LONG })
    expect(cuts).toEqual([LONG])
    expect(await storeState(context, tracked, { tenant: 'a' }, {})).toMatchObject({ ...whole, blocks: 0 })
    expect(cuts).toHaveLength(1)
    expect(context.counters).toMatchObject({ saves: 1, blocksStored: LONG })
  })
})

test('of a long state of which the start is held, only the rest is cut', async () => {
  await withLongState(async ({ manager, sequence, tracked }) => {
    const cuts: number[] = []
    const context = contextOf(manager, sequence, (blocks) => cuts.push(blocks))
    const other = new FakeSequence()
    const otherTracked = watch(other)
    await other.evaluateWithoutGeneratingNewTokens([...tokens(1, (BLOCKS_PER_TURN + 5) * BLOCK)])
    await storeState(contextOf(manager, other), otherTracked, { tenant: 'a' }, {})
    expect(await storeState(context, tracked, { tenant: 'a' }, {})).toMatchObject({ tokens: LONG * BLOCK, message: '' })
    expect(cuts).toEqual([LONG - BLOCKS_PER_TURN - 5])
  })
})

test('a long state is no victim of its own, where it takes the place of others', async () => {
  await withLongState(async ({ manager, sequence, tracked }) => {
    const other = new FakeSequence()
    const otherTracked = watch(other)
    await other.evaluateWithoutGeneratingNewTokens([...tokens(2, BLOCKS_PER_TURN * BLOCK)])
    await storeState(contextOf(manager, other), otherTracked, { tenant: 'a', priority: 80 }, {})
    await storeState(contextOf(manager, sequence), tracked, { tenant: 'a' }, {})
    expect(manager.sequence(tokens(1, LONG * BLOCK), { tenant: 'a' }).match().blocks).toBe(LONG)
  })
})

test('two long states with one prefix that are stored at once are both held', async () => {
  await withManager({ host: { capacityBytes: 2 * LONG * TEST_STRIDE } }, async (manager) => {
    const ends = [2, 3].map((seed) => [...tokens(1, (LONG - 20) * BLOCK), ...tokens(seed, 20 * BLOCK)])
    const storing = ends.map(async (all) => {
      const sequence = new FakeSequence()
      const tracked = watch(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(all)
      return await storeState(contextOf(manager, sequence), tracked, { tenant: 'a' }, {})
    })
    for (const outcome of await Promise.all(storing)) expect(outcome.tokens).toBe(LONG * BLOCK)
  })
})

test('of a state larger than host memory, without a disk, as many blocks stay as there is room for', async () => {
  const manager = await BlockManager.open(testOptions(null, { host: { capacityBytes: 4 * TEST_STRIDE } }))
  const sequence = new FakeSequence()
  const tracked = watch(sequence)
  await sequence.evaluateWithoutGeneratingNewTokens([...tokens(1, 6 * BLOCK)])
  const cuts: number[] = []
  const context = contextOf(manager, sequence, (blocks) => cuts.push(blocks))
  const { message, ...stored } = await storeState(context, tracked, { tenant: 'a' }, {})
  expect(stored).toMatchObject({ tokens: 4 * BLOCK, blocks: 4 })
  expect(message).toContain('ERR_KV_OUT_OF_BLOCKS')
  expect(cuts).toEqual([4])
  expect(manager.sequence(tokens(1, 6 * BLOCK), { tenant: 'a' }).match().blocks).toBe(4)
  await manager.close()
})

test('a cut that fails in a later round gives its slots back', async () => {
  await withSmallHost(async ({ manager, sequence, tracked }) => {
    let cuts = 0
    const context = contextOf(manager, sequence, () => {
      if (++cuts === 2) throw new KvError('ERR_KV_IO', 'The image could not be read.')
    })
    await expect(storeState(context, tracked, { tenant: 'a' }, {})).rejects.toMatchObject({ code: 'ERR_KV_IO' })
    expect(context.counters.blocksStored).toBe(4)
    expect(await storeState(context, tracked, { tenant: 'a' }, {})).toMatchObject({ tokens: 8 * BLOCK, blocks: 4 })
  })
})

test('blocks that were cut and could not be published are not counted', async () => {
  await withSmallHost(async ({ manager, sequence, tracked }) => {
    const limits = new AbortController()
    let cuts = 0
    const context = contextOf(manager, sequence, () => {
      cuts++
      limits.abort()
    })
    const outcome = await storeState(context, tracked, { tenant: 'a' }, { signal: limits.signal })
    const held = manager.sequence(tokens(1, 8 * BLOCK), { tenant: 'a' }).match()
    expect(cuts).toBe(1)
    expect(outcome).toMatchObject({ tokens: held.tokens, blocks: held.blocks })
    expect(outcome.message).not.toBe('')
    expect(context.counters.blocksStored).toBe(held.blocks)
  })
})

test.each([
  ['stored where it is the one of the layout', 8, 16],
  ['not where it is longer, for then it would come back too short', 9, 0],
])('a window of the engine is %s', async (_, windowTokens, held) => {
  await withManager({ layout: WINDOW_OF_8, host: { capacityBytes: 16 * strideOf(WINDOW_OF_8) } }, async (manager) => {
    const sequence = new FakeSequence()
    const tracked = watch(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens([...tokens(1, 16)])
    const context = contextOf(manager, sequence, () => undefined, windowTokens)
    const storing = storeState(context, tracked, { tenant: 'a' }, {})
    if (held === 0) await expect(storing).rejects.toMatchObject({ code: 'ERR_KV_LAYOUT_MISMATCH' })
    else await storing
    expect(manager.sequence(tokens(1, 16), { tenant: 'a' }).match().tokens).toBe(held)
    expectQuiet(manager)
  })
})
