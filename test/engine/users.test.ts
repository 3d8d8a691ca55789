import type { LlamaModel } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serveUsers, USERS } from '../../bench/engine/users.js'
import { modelPath } from '../../scripts/models/cache.js'
import { withDirectory } from '../support/manager.js'
import { withCache } from './support/cache.js'
import { createContext, loadModel } from './support/engine.js'

const MiB = 1024 * 1024

describe('many users of one sequence', () => {
  let model: LlamaModel

  beforeAll(async () => {
    model = await loadModel(modelPath('tiny'))
  })
  afterAll(() => model.dispose())

  test('evaluate at most 0.60 of the tokens that reuse within the sequence does, with the same answers', async () => {
    const context = await createContext(model, { contextSize: 2048, flashAttention: false })
    let sequence = context.getSequence()
    const reuse = await serveUsers(model, sequence, (prompt) => sequence.adaptStateToTokens(prompt.slice(0, -1), false))
    await sequence.dispose()
    expect(reuse.promptTokens).toBe(31_104)

    await withCache(model, context, {}, async ({ cache, failures }) => {
      sequence = context.getSequence()
      cache.attach(sequence, { tenant: 'everybody of this server' })
      const run = await serveUsers(model, sequence, (prompt) => sequence.adaptStateToTokens(prompt.slice(0, -1), false))
      expect(run.answers).toEqual(reuse.answers)
      process.stdout.write(
        `${USERS.count} users x ${USERS.turns} turns, ${run.promptTokens} prompt tokens: evaluated ${reuse.evaluated} with the ` +
          `engine's own reuse, ${run.evaluated} with kvtier (${(run.evaluated / reuse.evaluated).toFixed(3)})\n`,
      )
      // First what would explain it.
      expect(failures).toEqual([])
      expect(cache.stats()).toMatchObject({ reason: '', offloadFailures: 0 })
      expect(run.evaluated / reuse.evaluated).toBeLessThanOrEqual(0.6)
    })
    await context.dispose()
  })

  test('evaluate as few with a host tier that holds a few blocks only, and the rest on disk', async () => {
    await withDirectory(async (directory) => {
      const context = await createContext(model, { contextSize: 2048, flashAttention: false })
      const manager = { host: { capacityBytes: 5 * MiB }, disk: { directory, capacityBytes: 64 * MiB } }
      await withCache(model, context, { manager }, async ({ cache, failures }) => {
        const sequence = context.getSequence()
        cache.attach(sequence)
        const run = await serveUsers(model, sequence, (prompt) =>
          sequence.adaptStateToTokens(prompt.slice(0, -1), false),
        )
        const stats = cache.stats()
        expect(stats.tokensFromDisk).toBeGreaterThan(0)
        expect(run.evaluated).toBeLessThan(4_600)
        expect(failures).toEqual([])
      })
      await context.dispose()
    })
  })
})
