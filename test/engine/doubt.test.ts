import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LlamaContextSequence, LlamaModel, Token } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.js'
import { DEFAULT_TOKENS_PER_BLOCK } from '../../lib/connectors/node-llama-cpp/describe.js'
import { bindNodeLlamaCpp, describeNodeLlamaCpp } from '../../lib/connectors/node-llama-cpp/index.js'
import { modelPath } from '../../scripts/models/cache.js'
import { withCache } from './support/cache.js'
import { createContext, greedy, largestDifference, loadModel, logitsAfter, promptOf } from './support/engine.js'

const MiB = 1024 * 1024
const BLOCK = DEFAULT_TOKENS_PER_BLOCK

let model: LlamaModel
let prompt: Token[]
let folder = ''

beforeAll(async () => {
  model = await loadModel(modelPath('tiny'))
  prompt = promptOf(model, 1024)
  folder = mkdtempSync(join(tmpdir(), 'kvtier-engine-'))
})
afterAll(async () => {
  await model.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** The logits after the prompt's first `count` tokens, computed from nothing, split after `split` tokens. */
async function recomputed(
  sequence: LlamaContextSequence,
  count: number,
  split: number,
): Promise<ReadonlyMap<Token, number>> {
  await sequence.clearHistory()
  if (split > 0) await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, split))
  const logits = await logitsAfter(sequence, prompt.slice(split, count))
  await sequence.clearHistory()
  return logits
}

describe('what is not known to be what a fresh evaluation gives is not stored', () => {
  test('tokens behind a range that was erased in the middle', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
      await sequence.eraseContextTokenRanges([{ start: 130, end: 200 }])
      // Between the shift and the next evaluation even what is before it is left alone.
      expect(await cache.offload(sequence)).toMatchObject({ blocks: 0 })
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(512, 600))
      await cache.offload(sequence)
      await cache.idle()
      expect(cache.stats().blocksStored).toBe(128 / BLOCK)
      expect(await cache.prefetch(prompt)).toBe(128)
      // What the sequence has now is no prompt's prefix, and is found under no prompt.
      expect(await cache.prefetch([...prompt.slice(0, 130), ...prompt.slice(200, 600)])).toBe(128)
    })
    await context.dispose()
  })

  test('again what is evaluated after the doubtful tokens are gone', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 300))
      await sequence.eraseContextTokenRanges([{ start: 100, end: 110 }])
      await sequence.eraseContextTokenRanges([{ start: 90, end: sequence.nextTokenIndex }])
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(90, 256))
      await cache.offload(sequence)
      await cache.idle()
      expect(await cache.prefetch(prompt)).toBe(256)
    })
    await context.dispose()
  })

  test('tokens that the engine shifted at the end of its context', async () => {
    const context = await createContext(model, { contextSize: 256 })
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await greedy(sequence, prompt.slice(0, 200), 100)
      await cache.idle()
      const { contextTokens } = sequence
      expect(contextTokens.length).toBeLessThan(256)
      await cache.offload(sequence)
      expect(await cache.prefetch(contextTokens)).toBe(0)
    })
    await context.dispose()
  })

  test('a state that the caller loaded from a file, and one that was there before it was attached', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      const path = join(folder, 'state')
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      await sequence.saveStateToFile(path)
      cache.attach(sequence)
      expect(await cache.offload(sequence)).toMatchObject({ blocks: 0 })
      await sequence.clearHistory()
      await sequence.loadStateFromFile(path, { acceptRisk: true })
      expect(sequence.nextTokenIndex).toBe(256)
      expect(await cache.offload(sequence)).toMatchObject({ blocks: 0 })
      await sequence.clearHistory()
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      await cache.idle()
      expect(await cache.prefetch(prompt)).toBe(256)
    })
    await context.dispose()
  })
})

describe('the answer is the recomputed one', () => {
  test('when bytes of a held block were changed in memory', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ manager, cache, failures }) => {
      const sequence = context.getSequence()
      const expected = await recomputed(sequence, 600, 512)
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
      await cache.offload(sequence)
      const reading = await manager.host.load(manager.sequence(prompt.slice(0, 513), { tenant: 'default' }))
      expect(reading.result.tokens).toBe(512)
      const bytes = reading.window(3)
      bytes[1000] = (bytes[1000] ?? 0) ^ 1
      reading.release()
      await sequence.clearHistory()
      await sequence.adaptStateToTokens(prompt.slice(0, 599), false)
      expect(sequence.nextTokenIndex).toBe(0)
      expect(cache.stats().skipped.lost).toBe(1)
      expect(manager.stats().counters.lost).toBeGreaterThan(0)
      // What is before the bad block is still there.
      expect(await cache.prefetch(prompt)).toBe(3 * BLOCK)
      cache.detach(sequence)
      expect(largestDifference(expected, await recomputed(sequence, 600, 512))).toBe(0)
      expect(failures).toEqual([])
    })
    await context.dispose()
  })

  test('when two sequences want one prefix at once', async () => {
    const context = await createContext(model, { sequences: 2 })
    await withCache(model, context, {}, async ({ cache }) => {
      const [a, b] = [context.getSequence(), context.getSequence()]
      const expected = await recomputed(a, 600, 512)
      cache.attach(a)
      cache.attach(b)
      await a.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
      await cache.offload(a)
      await a.clearHistory()
      await Promise.all([a, b].map((sequence) => sequence.adaptStateToTokens(prompt.slice(0, 599), false)))
      for (const sequence of [a, b]) {
        expect(sequence.nextTokenIndex).toBe(512)
        expect(largestDifference(expected, await logitsAfter(sequence, prompt.slice(512, 600)))).toBe(0)
      }
    })
    await context.dispose()
  })

  test('when host memory holds less than the prompt and nothing is behind it', async () => {
    const context = await createContext(model)
    const manager = { host: { capacityBytes: 4 * BLOCK * 2048 } }
    await withCache(model, context, { manager }, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
      await cache.offload(sequence)
      await sequence.clearHistory()
      await sequence.adaptStateToTokens(prompt.slice(0, 599), false)
      const held = sequence.nextTokenIndex
      expect(held).toBeLessThanOrEqual(4 * BLOCK)
      const logits = await logitsAfter(sequence, prompt.slice(held, 600))
      cache.detach(sequence)
      expect(largestDifference(logits, await recomputed(sequence, 600, held))).toBeLessThan(0.05)
    })
    await context.dispose()
  })

  test('when the manager was closed meanwhile: the cache is off', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ manager, cache, failures }) => {
      const sequence = context.getSequence()
      const expected = await recomputed(sequence, 300, 256)
      const reasons: string[] = []
      cache.on('disabled', ({ reason }) => reasons.push(reason))
      cache.attach(sequence)
      await manager.close()
      await sequence.adaptStateToTokens(prompt.slice(0, 299), false)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      await cache.idle()
      expect(largestDifference(expected, await logitsAfter(sequence, prompt.slice(256, 300)))).toBe(0)
      expect(cache.stats()).toMatchObject({ enabled: false, reason: reasons[0], skipped: { off: 1 } })
      expect([reasons.length, failures]).toEqual([1, []])
    })
    await context.dispose()
  })

  test('when LoRA adapters were set meanwhile: the cache is off', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      await cache.offload(sequence)
      await sequence.clearHistory()
      // Not in the engine's types: what its createContext calls for its option `lora`.
      await (context as unknown as { _setLoras(loras: readonly object[]): Promise<void> })._setLoras([])
      await sequence.adaptStateToTokens(prompt.slice(0, 299), false)
      expect(sequence.nextTokenIndex).toBe(0)
      expect(cache.stats()).toMatchObject({ enabled: false, blocksStored: 256 / BLOCK, skipped: { off: 1 } })
    })
    await context.dispose()
  })
})

describe('who binds', () => {
  test.each([
    ['closed', true],
    ['closed meanwhile', false],
  ])('to a manager that is %s is told so, and keeps the context as it was', async (_, isClosedBefore) => {
    const context = await createContext(model)
    const described = await describeNodeLlamaCpp({ model, context })
    const manager = await BlockManager.open({ ...described, host: { capacityBytes: MiB } })
    if (isClosedBefore) await manager.close()
    const binding = bindNodeLlamaCpp(manager, { model, context })
    const closing = manager.close()
    await expect(binding).rejects.toMatchObject({ code: 'ERR_KV_CLOSED', message: /block manager was closed/ })
    await closing
    expect(context.sequencesLeft).toBe(1)
    expect(Object.hasOwn(context, '_setLoras')).toBe(false)
    await context.dispose()
  })
})

describe('who detaches', () => {
  test('right after a turn still has it stored', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      {
        using _ = cache.attach(sequence)
        await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      }
      await cache.idle()
      expect(await cache.prefetch(prompt)).toBe(256)
    })
    await context.dispose()
  })

  test('and shifts before the save that is due has nothing stored that was shifted', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 256))
      cache.detach(sequence)
      await sequence.eraseContextTokenRanges([{ start: 64, end: 128 }])
      await cache.idle()
      expect(await cache.prefetch([...prompt.slice(0, 64), ...prompt.slice(128, 256)])).toBe(0)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(256, 320))
      await cache.offload(sequence)
      expect(await cache.prefetch([...prompt.slice(0, 64), ...prompt.slice(128, 320)])).toBe(64)
    })
    await context.dispose()
  })

  test('and attaches for another has what is there in his own tenant, and nothing of it is found by the other', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ manager, cache }) => {
      const sequence = context.getSequence()
      const held = (tenant: string, tokens = prompt): number => manager.sequence(tokens, { tenant }).match().tokens
      const other = [...prompt.slice(0, 128), ...promptOf(model, 400, 2).slice(128)]
      const alice = cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 384))
      alice.detach()
      const bob = cache.attach(sequence, { tenant: 'bob' })
      alice.detach()
      await sequence.adaptStateToTokens(other.slice(0, 319), false)
      expect(bob.last).toMatchObject({ kept: 0, outcome: 'not-held' })
      await sequence.evaluateWithoutGeneratingNewTokens(other.slice(0, 320))
      await cache.idle()
      expect([held('alice'), held('bob'), held('bob', other)]).toEqual([384, 128, 320])
    })
    await context.dispose()
  })
})

describe('an offload tells', () => {
  test('why nothing was stored', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 128))
      expect(await cache.offload(sequence)).toEqual({
        tokens: 0,
        blocks: 0,
        message: expect.stringContaining('only the first 0 are known'),
      })
      await sequence.clearHistory()
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 128))
      const aborted = await cache.offload(sequence, { signal: AbortSignal.abort() })
      expect(aborted).toMatchObject({ tokens: 0, blocks: 0, message: expect.stringContaining('ERR_KV_ABORTED') })
      expect(await cache.offload(sequence)).toEqual({ tokens: 128, blocks: 128 / BLOCK, message: '' })
      expect(await cache.offload(sequence)).toEqual({ tokens: 128, blocks: 0, message: '' })
      expect(cache.stats().blocksStored).toBe(128 / BLOCK)
    })
    await context.dispose()
  })

  test('how much of it the disk has', async () => {
    const context = await createContext(model)
    const disk = { directory: join(folder, 'small'), capacityBytes: 3 * BLOCK * 2048 }
    await withCache(model, context, { manager: { disk } }, async ({ cache, failures }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
      await cache.idle()
      const { tokens, message } = await cache.offload(sequence, { until: 'disk' })
      expect(tokens).toBeLessThanOrEqual(3 * BLOCK)
      expect(message).not.toBe('')
      expect(failures.length).toBeGreaterThan(0)
    })
    await context.dispose()
  })

  test('him who asks from within an evaluation that it does not wait for him', async () => {
    const context = await createContext(model, { contextSize: 256 })
    await withCache(model, context, {}, async ({ cache }) => {
      const told: string[] = []
      const sequence = context.getSequence({
        contextShift: {
          strategy: async ({ sequence: own, size }) => {
            told.push((await cache.offload(own)).message)
            return [{ start: 1, end: size }]
          },
        },
      })
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 300))
      expect(told).toEqual([expect.stringContaining('is running')])
    })
    await context.dispose()
  })
})

describe('a conversation goes on', () => {
  test('after an iterator that was left between two tokens', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      const left = sequence.evaluate(prompt.slice(0, 256))
      await left.next()
      await sequence.adaptStateToTokens(promptOf(model, 200, 2), false)
      await sequence.adaptStateToTokens(prompt.slice(0, 300), false)
      expect(sequence.nextTokenIndex).toBe(256)
      expect(cache.stats()).toMatchObject({ onboards: 1, skipped: { busy: 0 } })
    })
    await context.dispose()
  })
})

describe('who asks for something that cannot be', () => {
  test('is told that the manager is another model', async () => {
    const context = await createContext(model)
    const other = await loadModel(modelPath('mid'))
    const otherContext = await createContext(other)
    const manager = await BlockManager.open({
      ...(await describeNodeLlamaCpp({ model: other, context: otherContext })),
      host: { capacityBytes: 16 * MiB },
    })
    await expect(bindNodeLlamaCpp(manager, { model, context })).rejects.toMatchObject({
      code: 'ERR_KV_LAYOUT_MISMATCH',
    })
    expect(Object.hasOwn(context, '_setLoras')).toBe(false)
    await expect(bindNodeLlamaCpp(manager, { model, context: otherContext })).rejects.toMatchObject({
      code: 'ERR_KV_INVALID_VALUE',
    })
    await manager.close()
    await other.dispose()
    await context.dispose()
  })

  test.each(['context', 'model'] as const)(
    'gets no crash when the %s is disposed during saves and loads',
    async (what) => {
      for (let round = 0; round < 4; round++) {
        const ours = await loadModel(modelPath('tiny'))
        const context = await createContext(ours, { sequences: 2 })
        await withCache(ours, context, {}, async ({ cache }) => {
          const [a, b] = [context.getSequence(), context.getSequence()]
          cache.attach(a, { tenant: 'a' })
          cache.attach(b, { tenant: 'b' })
          await a.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
          await cache.offload(a)
          await a.clearHistory()
          await b.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 1024))
          const working = Promise.allSettled([a.adaptStateToTokens(prompt.slice(0, 599), false), cache.offload(b)])
          // Let them get under way, each round a little further.
          for (let i = 0; i < round * 3; i++) await new Promise((resolve) => setImmediate(resolve))
          await (what === 'model' ? ours.dispose() : context.dispose())
          await working
          expect(cache.stats().attached).toBe(0)
        })
        await ours.dispose()
      }
    },
  )

  test.each([Number.NaN, -1, 2 ** 32 + 5, 1.5, '7'])('is told that %s is no token', async (token) => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache }) => {
      const tokens = [...prompt.slice(0, 100), token as Token]
      await expect(cache.onboard(context.getSequence(), tokens)).rejects.toMatchObject({
        code: 'ERR_KV_INVALID_TOKEN',
        message: expect.stringContaining('tokens[100]'),
      })
      await expect(cache.prefetch(tokens)).rejects.toMatchObject({ code: 'ERR_KV_INVALID_TOKEN' })
    })
    await context.dispose()
  })

  test('is told that the context is too short for two blocks', async () => {
    const context = await createContext(model, { contextSize: 256 })
    await withCache(model, context, { tokensPerBlock: 128 }, async ({ cache }) => {
      expect(cache.stats()).toMatchObject({ enabled: false, reason: expect.stringContaining('two blocks of 128') })
    })
    await context.dispose()
  })

  test('is told that every sequence is taken, and can name one', async () => {
    const context = await createContext(model)
    const sequence = context.getSequence()
    await expect(describeNodeLlamaCpp({ model, context })).rejects.toMatchObject({ code: 'ERR_KV_INVALID_VALUE' })
    await withCache(model, context, { bind: { sequence } }, async ({ cache }) => {
      expect(cache.enabled).toBe(true)
      expect(sequence.nextTokenIndex).toBe(0)
    })
    await context.dispose()
  })
})
