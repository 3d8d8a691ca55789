import { describe, expect, test } from 'vitest'
import type { BlockManager } from '../../../lib/block-manager.ts'
import type { NodeLlamaCppCache } from '../../../lib/connectors/node-llama-cpp/cache.ts'
import { tokens, withManager } from '../../support/manager.ts'
import { expectQuiet } from '../../support/outcomes.ts'
import { fakeCache } from './fake-cache.ts'
import { FakeSequence } from './fake-sequence.ts'

const whole = prompt(1, 24)
const foreign = prompt(2, 16)

function prompt(seed: number, count: number): number[] {
  return [...tokens(seed, count)]
}

/** Tokens from the start that each tenant would find. */
function held(manager: BlockManager, tenants: readonly string[], ofTokens: readonly number[]): number[] {
  return tenants.map((tenant) => manager.sequence(Uint32Array.from(ofTokens), { tenant }).match().tokens)
}

describe('a sequence that another cache takes over', () => {
  const tenants = ['one', 'other']

  async function withCaches(
    run: (parts: {
      manager: BlockManager
      sequence: FakeSequence
      one: NodeLlamaCppCache
      other: NodeLlamaCppCache
    }) => Promise<void>,
  ): Promise<void> {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const caches = tenants.map((tenant) => fakeCache(manager, sequence, { tenant }))
      const [one, other] = caches.map(({ cache }) => cache) as [NodeLlamaCppCache, NodeLlamaCppCache]
      await run({ manager, sequence, one, other })
      await Promise.all([one.close(), other.close()])
      expect(caches.flatMap(({ told }) => told)).toEqual([])
      expectQuiet(manager)
    })
  }

  test('is not the first one’s because that is told to detach what it does not have', async () => {
    await withCaches(async ({ manager, sequence, one, other }) => {
      one.attach(sequence).detach()
      other.attach(sequence)
      one.detach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await other.idle()
      other.detach(sequence)
      await one.offload(sequence)
      expect(held(manager, tenants, whole)).toEqual([0, 24])
    })
  })

  test('is not the first one’s because a prompt of theirs ends there', async () => {
    await withCaches(async ({ manager, sequence, one, other }) => {
      one.attach(sequence)
      const asking = sequence.adaptStateToTokens(foreign)
      one.detach(sequence)
      other.attach(sequence)
      await asking
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await other.idle()
      other.detach(sequence)
      await one.offload(sequence)
      expect(held(manager, tenants, whole)).toEqual([0, 24])
    })
  })

  test('has nothing that the first one was loading, and is asked about only after that', async () => {
    await withCaches(async ({ sequence, one, other }) => {
      one.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await one.idle()
      one.detach(sequence)
      await sequence.clearHistory()
      const gate = sequence.hold('load')
      const onboarding = one.onboard(sequence, [...whole, 1])
      await gate.reached
      const attachment = other.attach(sequence)
      const asking = sequence.adaptStateToTokens(whole)
      gate.open()
      expect(await onboarding).toMatchObject({ tokens: 0, outcome: 'aborted' })
      await asking
      expect(attachment.last).toMatchObject({ kept: 0, outcome: 'not-held' })
    })
  })

  test('is not emptied by a prompt of the first one that was waiting', async () => {
    await withCaches(async ({ sequence, one, other }) => {
      one.attach(sequence, { tenant: 'somebody' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      await one.idle()
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8))
      one.detach(sequence)
      const gate = sequence.hold('save')
      const onboarding = one.onboard(sequence, [...whole, 1])
      await gate.reached
      other.attach(sequence)
      gate.open()
      expect(await onboarding).toMatchObject({ tokens: 24, onboarded: 0, outcome: 'aborted' })
      expect(sequence.contextTokens).toEqual(whole)
    })
  })
})

test('what was detached while its prompt was looked up is not evaluated for it', async () => {
  await withManager({}, async (manager) => {
    const sequence = new FakeSequence()
    const { cache } = fakeCache(manager, sequence, {}, { needsBoundaries: true })
    const attachment = cache.attach(sequence)
    const asking = sequence.adaptStateToTokens(whole)
    attachment.detach()
    await asking
    expect([sequence.nextTokenIndex, cache.stats().boundaryStops]).toEqual([0, 0])
    cache.attach(sequence)
    await sequence.adaptStateToTokens(whole)
    expect([sequence.nextTokenIndex, cache.stats().boundaryStops]).toEqual([24, 1])
    await cache.close()
  })
})

describe('a tenant', () => {
  const tenants = ['alice', 'bob']

  async function withCache(
    run: (parts: { manager: BlockManager; sequence: FakeSequence; cache: NodeLlamaCppCache }) => Promise<void>,
  ): Promise<void> {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const { cache, told } = fakeCache(manager, sequence)
      await run({ manager, sequence, cache })
      await cache.close()
      expect(told).toEqual([])
      expectQuiet(manager)
    })
  }

  test.each([
    ['attached', false],
    ['attached and asking', true],
  ])('does not get the first tokens of another whose evaluation runs while it is %s', async (_, isAsking) => {
    await withCache(async ({ manager, sequence, cache }) => {
      const { detach } = cache.attach(sequence, { tenant: 'alice' })
      const gate = sequence.hold('evaluate')
      const evaluating = sequence.evaluateWithoutGeneratingNewTokens(whole)
      await gate.reached
      detach()
      const bob = cache.attach(sequence, { tenant: 'bob' })
      if (isAsking) await sequence.adaptStateToTokens(whole)
      gate.open()
      await evaluating
      await cache.idle()
      await cache.offload(sequence)
      expect(held(manager, tenants, whole)).toEqual([0, 0])
      await sequence.adaptStateToTokens(whole)
      expect(bob.last?.kept).toBe(0)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      expect(held(manager, tenants, whole)).toEqual([0, 24])
    })
  })

  test('does not find a state that was being loaded for another when it was attached', async () => {
    await withCache(async ({ sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      const gate = sequence.hold('load')
      sequence.loads = foreign
      const loading = sequence.loadStateFromFile()
      await gate.reached
      cache.detach(sequence)
      const bob = cache.attach(sequence, { tenant: 'bob' })
      gate.open()
      await loading
      await sequence.adaptStateToTokens(foreign)
      expect(bob.last?.kept).toBe(0)
    })
  })

  test('who comes back while the evaluation of another runs does not get its tokens', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      await cache.idle()
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'bob' })
      const gate = sequence.hold('evaluate')
      const evaluating = sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8))
      await gate.reached
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'alice' })
      gate.open()
      await evaluating
      await cache.idle()
      expect(held(manager, tenants, whole)).toEqual([8, 0])
    })
  })

  test('who comes back where nobody evaluated has what comes stored', async () => {
    for (const isAsking of [false, true]) {
      await withCache(async ({ manager, sequence, cache }) => {
        cache.attach(sequence, { tenant: 'alice' })
        await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 16))
        await cache.idle()
        cache.detach(sequence)
        cache.attach(sequence, { tenant: 'bob' }).detach()
        const alice = cache.attach(sequence, { tenant: 'alice' })
        if (isAsking) await sequence.adaptStateToTokens(whole)
        await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(16))
        await cache.idle()
        expect(held(manager, tenants, whole)).toEqual([24, 0])
        await sequence.adaptStateToTokens(whole)
        expect(alice.last?.kept).toBe(24)
      })
    }
  })

  test.each<[string, (sequence: FakeSequence) => Promise<void>]>([
    [
      'that moved up where its own were',
      async (sequence) => {
        await sequence.evaluateWithoutGeneratingNewTokens(foreign)
        await sequence.eraseContextTokenRanges([{ start: 4, end: 20 }])
      },
    ],
    [
      'of a state that was loaded',
      async (sequence) => {
        sequence.loads = foreign
        await sequence.loadStateFromFile()
      },
    ],
  ])('who comes back does not find tokens of another %s', async (_, byBob) => {
    await withCache(async ({ sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'bob' })
      await byBob(sequence)
      cache.detach(sequence)
      const alice = cache.attach(sequence, { tenant: 'alice' })
      await sequence.adaptStateToTokens([...sequence.contextTokens])
      expect(alice.last?.kept).toBe(0)
    })
  })
})
