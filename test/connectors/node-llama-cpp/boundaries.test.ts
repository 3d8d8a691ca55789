import { afterEach, expect, test, vi } from 'vitest'
import type { BlockManager } from '../../../lib/block-manager.ts'
import { boundariesOf } from '../../../lib/connectors/node-llama-cpp/boundaries.ts'
import type { CacheContext } from '../../../lib/connectors/node-llama-cpp/context.ts'
import { KvError } from '../../../lib/errors.ts'
import { strideOf, WINDOWED } from '../../support/layouts.ts'
import { tokens, withManager } from '../../support/manager.ts'
import { expectQuiet } from '../../support/outcomes.ts'
import { store } from '../../support/slots.ts'
import { contextOf, fakeCache } from './fake-cache.ts'
import { FakeSequence } from './fake-sequence.ts'

afterEach(() => vi.restoreAllMocks())

const meta = { tenant: 'a' }

/** The first `shared` tokens of prompt 1, then tokens of its own, `count` in all. */
function prompt(seed: number, shared: number, count: number): number[] {
  return [...tokens(1, shared), ...tokens(seed + 10, count).slice(shared)]
}

async function withWindows(run: (manager: BlockManager) => Promise<void>): Promise<void> {
  await withManager({ layout: WINDOWED, host: { capacityBytes: 32 * strideOf(WINDOWED) } }, run)
}

/** Places for a prompt of which the sequence has some tokens. */
async function places(
  manager: BlockManager,
  asked: readonly number[],
  have = 0,
  changes: Partial<CacheContext> = {},
  minGainTokens = 1,
): Promise<readonly number[]> {
  const sequence = new FakeSequence()
  await sequence.evaluateWithoutGeneratingNewTokens(asked.slice(0, have))
  const context = { ...contextOf(manager, sequence), needsBoundaries: true, ...changes }
  return await boundariesOf(context, sequence, { tokens: asked, minGainTokens, meta })
}

test('a prompt stops at the end of its last whole block, and where it parts from others', async () => {
  await withWindows(async (manager) => {
    expect(await places(manager, prompt(1, 24, 27))).toEqual([24])
    await store(manager, manager.sequence(Uint32Array.from(prompt(1, 24, 24)), meta))
    expect(await places(manager, prompt(2, 14, 27))).toEqual([12, 24])
    expect(await places(manager, prompt(2, 2, 27))).toEqual([24])
    // What is held whole, and what goes on behind it.
    expect(await places(manager, prompt(1, 24, 24))).toEqual([24])
    expect(await places(manager, prompt(2, 24, 39))).toEqual([36])
  })
})

test('nothing is saved twice, and nothing that is less than a block or not worth bringing', async () => {
  await withWindows(async (manager) => {
    await store(manager, manager.sequence(Uint32Array.from(prompt(1, 24, 24)), meta))
    const asked = prompt(2, 14, 27)
    expect(await places(manager, asked, 9)).toEqual([24])
    expect(await places(manager, asked, 12)).toEqual([24])
    expect(await places(manager, asked, 20)).toEqual([24])
    expect(await places(manager, asked, 21)).toEqual([])
    expect(await places(manager, asked, 0, {}, 12)).toEqual([12, 24])
    expect(await places(manager, asked, 0, {}, 13)).toEqual([24])
    expect(await places(manager, asked, 0, { needsBoundaries: false })).toEqual([])
    expect(await places(manager, prompt(1, 0, 3))).toEqual([])
    // Where the engine would shift.
    expect(await places(manager, prompt(1, 0, 4096))).toEqual([])
  })
})

test('with all rows of a window there is a place a window behind the one before', async () => {
  await withWindows(async (manager) => {
    const ring = { windowTokens: 8, cells: 256 }
    expect(await places(manager, prompt(1, 0, 27), 0, { ring })).toEqual([8, 16, 24])
    expect(await places(manager, prompt(1, 0, 27), 6, { ring })).toEqual([12, 20, 24])
    expect(await places(manager, prompt(1, 0, 27), 23, { ring })).toEqual([])
    await store(manager, manager.sequence(Uint32Array.from(prompt(1, 24, 24)), meta))
    expect(await places(manager, prompt(2, 14, 27), 0, { ring })).toEqual([8, 12, 16, 24])
    expect(await places(manager, prompt(2, 14, 27), 7, { ring })).toEqual([12, 20, 24])
  })
})

test('an attached sequence is evaluated and saved place by place, until it is detached', async () => {
  await withManager({}, async (manager) => {
    const sequence = new FakeSequence()
    const ring = { windowTokens: 8, cells: null }
    const { cache, told } = fakeCache(manager, sequence, {}, { needsBoundaries: true, ring })
    const attachment = cache.attach(sequence, meta)
    await sequence.adaptStateToTokens(prompt(1, 24, 27))
    expect(sequence.nextTokenIndex).toBe(24)
    expect(cache.stats()).toMatchObject({ boundaryStops: 3, saves: 3 })
    await sequence.clearHistory()
    const gate = sequence.hold('evaluate')
    const asking = sequence.adaptStateToTokens(prompt(2, 0, 27))
    await gate.reached
    attachment.detach()
    gate.open()
    await asking
    // What was begun ends, and no more is begun.
    expect(sequence.nextTokenIndex).toBe(8)
    expect(cache.stats()).toMatchObject({ boundaryStops: 4 })
    expect(told).toEqual([])
    await cache.close()
    expectQuiet(manager)
  })
})

test('where a place cannot be told the prompt goes on without one', async () => {
  await withManager({}, async (manager) => {
    const sequence = new FakeSequence()
    const { cache, told } = fakeCache(manager, sequence, {}, { needsBoundaries: true })
    cache.attach(sequence, meta)
    vi.spyOn(manager, 'sequence').mockImplementation(() => {
      throw new KvError('ERR_KV_IO', 'Nothing works.')
    })
    await sequence.adaptStateToTokens(prompt(1, 24, 27))
    expect(sequence.nextTokenIndex).toBe(0)
    expect(told).toEqual(['failed: onboard: ERR_KV_IO: Nothing works.', 'failed: offload: ERR_KV_IO: Nothing works.'])
    vi.restoreAllMocks()
    await cache.close()
  })
})

test('older rows of a window come with a prefix, and are fetched with it', async () => {
  await withWindows(async (manager) => {
    await store(manager, manager.sequence(Uint32Array.from(prompt(1, 24, 24)), meta))
    const sequence = new FakeSequence()
    const ring = { windowTokens: 8, cells: 16 }
    const { cache } = fakeCache(manager, sequence, {}, { ring })
    const load = vi.spyOn(manager.host, 'load')
    cache.attach(sequence, meta)
    await cache.prefetch(prompt(1, 24, 25), meta)
    await sequence.adaptStateToTokens(prompt(1, 24, 25))
    const [group] = manager.layout.groups.filter(({ kind }) => kind === 'sliding')
    expect(load).toHaveBeenCalledTimes(2)
    for (const [, options] of load.mock.calls) {
      const asked = group === undefined ? [] : [1, 2, 3, 4, 5, 6].map((blocks) => options?.firstWanted?.(group, blocks))
      expect(asked).toEqual([0, 0, 0, 0, 3, 4])
    }
    await cache.close()
  })
})
