import type { LlamaModel } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { modelPath } from '../../scripts/models/cache.js'
import { withCache } from './support/cache.js'
import { createContext, loadModel, promptOf } from './support/engine.js'

describe('a sequence that goes from one tenant to another', () => {
  let model: LlamaModel

  beforeAll(async () => {
    model = await loadModel(modelPath('tiny'))
  })
  afterAll(() => model.dispose())

  test('is not saved for the first one any more once it was detached', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache, failures }) => {
      const sequence = context.getSequence()
      const { saves } = cache.stats()
      const [first, second] = [promptOf(model, 256), promptOf(model, 256, 2)]
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(first)
      // The save at the turn's end has not begun.
      cache.detach(sequence)
      await cache.idle()
      expect(cache.stats().saves).toBe(saves)

      await sequence.clearHistory()
      cache.attach(sequence, { tenant: 'bob' })
      await sequence.evaluateWithoutGeneratingNewTokens(second)
      await cache.idle()
      expect(await cache.prefetch(second, { tenant: 'bob' })).toBe(256)
      expect(await cache.prefetch(second, { tenant: 'alice' })).toBe(0)
      expect(failures).toEqual([])
    })
    await context.dispose()
  })
})
