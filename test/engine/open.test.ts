import type { LlamaModel } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openNodeLlamaCpp } from '../../lib/connectors/node-llama-cpp/index.js'
import { modelPath } from '../../scripts/models/cache.js'
import { withDirectory } from '../support/manager.js'
import { createContext, loadModel, promptOf } from './support/engine.js'

const MiB = 1024 * 1024
const host = { capacityBytes: 16 * MiB }

describe('a cache with a manager of its own', () => {
  let model: LlamaModel
  beforeAll(async () => {
    model = await loadModel(modelPath('tiny'))
  })
  afterAll(() => model.dispose())

  test('opens it, and closes it with itself: the next one finds what is on disk', async () => {
    await withDirectory(async (directory) => {
      const context = await createContext(model)
      const prompt = promptOf(model, 300)
      const options = { model, context, host, disk: { directory, capacityBytes: 32 * MiB }, tokensPerBlock: 32 }
      const first = await openNodeLlamaCpp(options)
      expect(first.manager?.layout.tokensPerBlock).toBe(32)
      const sequence = context.getSequence()
      first.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt)
      await first.idle()
      await sequence.dispose()
      await first.close()
      expect(() => first.manager?.sequence([1], { tenant: 'a' })).toThrow(/closed/)

      const second = await openNodeLlamaCpp(options)
      expect(await second.prefetch(prompt)).toBe(288)
      await second.close()
    })
  })

  test.each([
    ['an option that nobody knows', { hots: host }, 'ERR_KV_INVALID_VALUE'],
    ['a minimum of no tokens', { minGainTokens: 0 }, 'ERR_KV_INVALID_VALUE'],
    ['a tenant without a name', { tenant: '' }, 'ERR_KV_INVALID_VALUE'],
    ['another moment of saving', { saveAt: 'never' }, 'ERR_KV_INVALID_VALUE'],
    ['another rule of onboarding', { onboardWhen: 1 }, 'ERR_KV_INVALID_VALUE'],
    ['blocks of no tokens', { tokensPerBlock: 0 }, 'ERR_KV_INVALID_VALUE'],
    ['a context that is none', { context: {} }, 'ERR_KV_INVALID_TYPE'],
    ['too little host memory', { host: { capacityBytes: 1 } }, 'ERR_KV_CAPACITY_TOO_SMALL'],
  ])('refuses %s', async (_, changes, code) => {
    const context = await createContext(model)
    const options = { model, context, host, ...changes } as Parameters<typeof openNodeLlamaCpp>[0]
    await expect(openNodeLlamaCpp(options)).rejects.toMatchObject({ code })
    expect(context.sequencesLeft).toBe(1)
    // Nor is anything of the context's still watched.
    expect(Object.hasOwn(context, '_setLoras')).toBe(false)
  })
})

test('a state of a kind that is not known is left alone: the cache is off, and says why', async () => {
  const model = await loadModel(modelPath('hybrid'))
  // As an engine would say it of a cache that kvtier has never seen.
  Object.defineProperty(model.fileInsights, 'isHybrid', { value: false })
  const context = await createContext(model)
  const cache = await openNodeLlamaCpp({ model, context, host })
  const told = new Promise<string>((resolve) => cache.on('disabled', ({ reason }) => resolve(reason)))
  expect(cache.manager).toBeNull()
  expect(cache.stats()).toMatchObject({ enabled: false, reason: expect.stringMatching(/cannot be cut into blocks/) })
  expect(await told).toBe(cache.stats().reason)
  const sequence = context.getSequence()
  cache.attach(sequence, { tenant: 'a' })
  const prompt = promptOf(model, 100)
  await sequence.adaptStateToTokens(prompt.slice(0, -1), false)
  await sequence.evaluateWithoutGeneratingNewTokens(prompt)
  expect(await cache.offload(sequence)).toMatchObject({
    tokens: 0,
    blocks: 0,
    message: expect.stringMatching(/cannot be cut/),
  })
  expect(await cache.prefetch(prompt)).toBe(0)
  expect(cache.stats().skipped.off).toBe(1)
  await cache.close()
  await context.dispose()
  await model.dispose()
})
