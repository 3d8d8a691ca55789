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

  test('is saved for whose prompt it has, also when it was detached before the save began', async () => {
    const context = await createContext(model)
    await withCache(model, context, {}, async ({ cache, failures }) => {
      const sequence = context.getSequence()
      const [first, second] = [promptOf(model, 256), promptOf(model, 256, 2)]
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(first)
      cache.detach(sequence)
      await cache.idle()
      expect(await cache.prefetch(first, { tenant: 'alice' })).toBe(256)

      cache.attach(sequence, { tenant: 'bob' })
      await sequence.adaptStateToTokens(second.slice(0, -1), false)
      await sequence.evaluateWithoutGeneratingNewTokens(second.slice(sequence.nextTokenIndex))
      await cache.idle()
      expect(await cache.prefetch(second, { tenant: 'bob' })).toBe(256)
      expect(await cache.prefetch(second, { tenant: 'alice' })).toBe(0)
      expect(await cache.prefetch(first, { tenant: 'bob' })).toBe(0)
      expect(failures).toEqual([])
    })
    await context.dispose()
  })
})
