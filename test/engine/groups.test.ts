import type { LlamaModel } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BindOptions } from '../../lib/connectors/node-llama-cpp/index.js'
import { modelPath } from '../../scripts/models/cache.js'
import { brief } from './support/brief.js'
import { withCache } from './support/cache.js'
import { Comparison } from './support/comparison.js'
import {
  createContext,
  greedy,
  largestDifference,
  likeliest,
  loadModel,
  logitsAfter,
  promptOf,
} from './support/engine.js'

const PROMPT_TOKENS = 2048
const ANSWER_TOKENS = 48
const PREFIXES = brief ? [512, 1984] : [64, 512, 1024, 1984]

interface Configuration {
  readonly flashAttention: boolean
  readonly swaFullCache: boolean
  readonly windowRows?: NonNullable<BindOptions['windowRows']>
  /** Largest one of a logit. */
  readonly difference: number
}

/**
 * The engine keeps a window in a ring of cells. Rows that come back lie at its start, wherever they were before, and flash
 * attention adds up in the order of the cells: the last bits differ. They do not where all rows are kept, and come back to
 * where they were, nor where the cache has a cell for every token.
 */
const WINDOW: readonly Configuration[] = [
  { flashAttention: false, swaFullCache: false, difference: 2e-3 },
  { flashAttention: true, swaFullCache: false, difference: 4e-3 },
  { flashAttention: false, swaFullCache: false, windowRows: 'all', difference: 0 },
  { flashAttention: true, swaFullCache: false, windowRows: 'all', difference: 0 },
  { flashAttention: false, swaFullCache: true, difference: 0 },
  { flashAttention: true, swaFullCache: true, difference: 0 },
]
const HYBRID: readonly Configuration[] = [true, false].map((flashAttention) => ({
  flashAttention,
  swaFullCache: false,
  difference: 0,
}))
/** Tokens of the made model's window. */
const WINDOW_TOKENS = 256

describe.each([
  { name: 'window', configurations: WINDOW, groups: ['full', 'window'] },
  { name: 'hybrid', configurations: HYBRID, groups: ['full', 'state'] },
])('the state of the model $name', ({ name, configurations, groups }) => {
  let model: LlamaModel

  beforeAll(async () => {
    model = await loadModel(modelPath(name))
  })
  afterAll(() => model.dispose())

  test.each(configurations)(
    'comes back where it was saved, flash attention $flashAttention, full cache $swaFullCache, rows $windowRows',
    async (configuration) => {
      const { difference, windowRows = 'last', ...options } = configuration
      const context = await createContext(model, { contextSize: PROMPT_TOKENS + 256, sequences: 2, ...options })
      await withCache(model, context, { bind: { windowRows } }, async ({ manager, cache, failures }) => {
        expect(cache.stats()).toMatchObject({ enabled: true, reason: '' })
        expect(manager.layout.groups.map((group) => group.name)).toEqual(groups)
        const [source, target] = [context.getSequence(), context.getSequence()]
        const comparison = new Comparison(difference)
        for (const [index, prefix] of PREFIXES.entries()) {
          const prompt = promptOf(model, PROMPT_TOKENS, 50 + index)
          cache.attach(source)
          // An attached sequence stops at a block's end and is saved there.
          await source.adaptStateToTokens(prompt.slice(0, prefix), false)
          expect(source.nextTokenIndex).toBe(prefix)
          cache.detach(source)
          const logits = await logitsAfter(source, prompt.slice(prefix))
          const answer = await greedy(source, [likeliest(logits)], ANSWER_TOKENS)
          await source.clearHistory()

          expect(await cache.onboard(target, prompt)).toMatchObject({ tokens: prefix, outcome: 'onboarded' })
          expect(target.nextTokenIndex).toBe(prefix)
          const again = await logitsAfter(target, prompt.slice(prefix))
          comparison.logits(prefix, logits, again)
          comparison.answers(prefix, answer, await greedy(target, [likeliest(again)], ANSWER_TOKENS))
          await target.clearHistory()
        }
        comparison.print(`${name}, ${JSON.stringify({ ...options, windowRows })}`)
        const stops = PREFIXES.map((prefix) => (windowRows === 'all' ? Math.ceil(prefix / WINDOW_TOKENS) : 1))
        const boundaryStops = stops.reduce((sum, each) => sum + each)
        expect(cache.stats()).toMatchObject({ onboards: PREFIXES.length, boundaryStops })
        if (windowRows === 'all') {
          // At any block of what was saved.
          const part = promptOf(model, PROMPT_TOKENS, 50).slice(0, Math.min(...PREFIXES) - 20)
          expect(await cache.onboard(target, part)).toMatchObject({ tokens: Math.floor((part.length - 1) / 16) * 16 })
        }
        expect(failures).toEqual([])
      })
      await context.dispose()
    },
  )

  test('is found by the third of those who share a system prompt, for the second stops where they part', async () => {
    const context = await createContext(model, { contextSize: PROMPT_TOKENS })
    await withCache(model, context, {}, async ({ cache, failures }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      const shared = promptOf(model, 700, 80)
      // Other prompts begin with the same few tokens.
      const promptFor = (seed: number): typeof shared => [...shared, ...promptOf(model, 220, seed).slice(20)]
      const ask = async (prompt: typeof shared): Promise<readonly number[]> => {
        const before = cache.stats()
        await sequence.clearHistory()
        await sequence.adaptStateToTokens(prompt.slice(0, -1), false)
        await cache.idle()
        const { tokensOnboarded, boundaryStops } = cache.stats()
        return [tokensOnboarded - before.tokensOnboarded, boundaryStops - before.boundaryStops]
      }
      // The first stops at its end; the second also behind the last whole block that both have, where the third begins.
      expect(await ask(promptFor(81))).toEqual([0, 1])
      expect(await ask(promptFor(82))).toEqual([0, 2])
      const prompt = promptFor(83)
      expect(await ask(prompt)).toEqual([688, 1])
      const restored = await logitsAfter(sequence, prompt.slice(896))
      cache.detach(sequence)
      await sequence.clearHistory()
      for (const end of [688, 896]) {
        await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(sequence.nextTokenIndex, end))
      }
      const computed = await logitsAfter(sequence, prompt.slice(896))
      const bound = name === 'window' ? 4e-3 : 0
      expect(largestDifference(computed, restored)).toBeLessThanOrEqual(bound)
      expect(likeliest(restored)).toBe(likeliest(computed))
      expect(failures).toEqual([])
    })
    await context.dispose()
  })

  test('comes back in a chat, whose other users come between, with fewer tokens evaluated', async () => {
    const context = await createContext(model, { contextSize: PROMPT_TOKENS })
    await withCache(model, context, {}, async ({ cache, failures }) => {
      const sequence = context.getSequence()
      cache.attach(sequence)
      const prompt = promptOf(model, 700, 70)
      const other = promptOf(model, 300, 71)
      const serve = async (tokens: typeof prompt): Promise<number> => {
        await sequence.adaptStateToTokens(tokens.slice(0, -1), false)
        await greedy(sequence, tokens.slice(sequence.nextTokenIndex), 8)
        await cache.idle()
        return cache.stats().tokensOnboarded
      }
      await serve(prompt)
      await serve(other)
      expect(await serve([...prompt, ...promptOf(model, 100, 72)])).toBeGreaterThanOrEqual(640)
      expect(failures).toEqual([])
    })
    await context.dispose()
  })
})
