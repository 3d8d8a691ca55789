import type { LlamaModel, Token } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

const CONFIGURATIONS = [true, false].flatMap((flashAttention) =>
  (['F16', 'Q8_0'] as const).flatMap((type) =>
    (brief ? [3] : [1, 2, 3]).map((sequences) => ({ flashAttention, type, sequences })),
  ),
)

describe('a prefix that comes back gives the logits and the answer of a full recompute', () => {
  let model: LlamaModel
  let prompt: Token[]

  beforeAll(async () => {
    model = await loadModel(modelPath('tiny'))
    prompt = promptOf(model, PROMPT_TOKENS)
  })
  afterAll(() => model.dispose())

  test.each(CONFIGURATIONS)(
    'flash attention $flashAttention, KV $type, sequences $sequences',
    async (configuration) => {
      const { flashAttention, type, sequences } = configuration
      const context = await createContext(model, {
        contextSize: PROMPT_TOKENS + 256,
        sequences,
        flashAttention,
        experimentalKvCacheKeyType: type,
        // Without flash attention the engine has no quantised V.
        experimentalKvCacheValueType: flashAttention ? type : 'F16',
      })
      await withCache(model, context, {}, async ({ cache, failures }) => {
        expect(cache.stats()).toMatchObject({ enabled: true, reason: '' })
        const all = Array.from({ length: sequences }, () => context.getSequence())
        const source = all[0]!
        const target = all.at(-1)!
        const comparison = new Comparison(0)
        for (const prefix of PREFIXES) {
          // Both runs compute in the same batches: up to the prefix, then the rest.
          const tenant = `prefix ${prefix}`
          cache.attach(source, { tenant })
          await source.evaluateWithoutGeneratingNewTokens(prompt.slice(0, prefix))
          await cache.offload(source)
          cache.detach(source)
          const logits = await logitsAfter(source, prompt.slice(prefix))
          const answer = await greedy(source, [likeliest(logits)], ANSWER_TOKENS)
          await source.clearHistory()

          cache.attach(target, { tenant })
          await target.adaptStateToTokens(prompt.slice(0, -1), false)
          expect(target.nextTokenIndex, `prefix ${prefix}`).toBe(prefix)
          cache.detach(target)
          const again = await logitsAfter(target, prompt.slice(prefix))
          comparison.logits(prefix, logits, again)
          comparison.answers(prefix, answer, await greedy(target, [likeliest(again)], ANSWER_TOKENS))
          await target.clearHistory()
        }
        comparison.print(`flash attention ${flashAttention}, KV ${type}, sequences ${sequences}`)
        expect(cache.stats()).toMatchObject({
          onboards: PREFIXES.length,
          tokensOnboarded: PREFIXES.reduce((a, b) => a + b),
        })
        expect(failures).toEqual([])
      })
      await context.dispose()
    },
  )

  test('one block of another prompt among them changes the logits: the comparison can fail', async () => {
    const context = await createContext(model, { contextSize: PROMPT_TOKENS + 256 })
    const sequence = context.getSequence()
    const other = [...prompt.slice(0, 64), ...promptOf(model, 64, 7), ...prompt.slice(128)]
    await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 512))
    const logits = await logitsAfter(sequence, prompt.slice(512, 600))
    await sequence.clearHistory()
    await sequence.evaluateWithoutGeneratingNewTokens(other.slice(0, 512))
    expect(largestDifference(logits, await logitsAfter(sequence, prompt.slice(512, 600)))).toBeGreaterThan(0.01)
    await context.dispose()
  })
})
