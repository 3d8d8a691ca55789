import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../../lib/block-manager.ts'
import { errorOf } from '../../support/expect-code.ts'
import { threads } from '../../support/host-slots.ts'
import { testing, untilHeld, withHeldIo } from '../../support/io.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../../support/manager.ts'
import { expectQuiet } from '../../support/outcomes.ts'
import { fakeCache } from './fake-cache.ts'
import { FakeSequence, fakeContext } from './fake-sequence.ts'

afterEach(() => vi.useRealTimers())

function prompt(seed: number, count: number): number[] {
  return [...tokens(seed, count)]
}

/** Tokens from the start that a tenant would find. */
function held(manager: BlockManager, tenant: string, ofTokens: readonly number[]): number {
  return manager.sequence(Uint32Array.from(ofTokens), { tenant }).match().tokens
}

/** Asks for a prompt as the engine's chats do; tokens that need not be evaluated. */
async function ask(sequence: FakeSequence, ofTokens: readonly number[]): Promise<number> {
  await sequence.adaptStateToTokens(ofTokens)
  return sequence.nextTokenIndex
}

describe('a sequence that one cache has attached', () => {
  test.each([
    ['another', true],
    ['the same', false],
  ])('is refused to another with %s manager until it is detached, and to the same one', async (_, isOther) => {
    const run = async (manager: BlockManager, others: BlockManager): Promise<void> => {
      const sequence = new FakeSequence()
      const [one, other] = [fakeCache(manager, sequence).cache, fakeCache(others, sequence).cache]
      one.attach(sequence)
      expect(errorOf('ERR_KV_INVALID_VALUE', () => other.attach(sequence)).message).toContain('another cache')
      expect(errorOf('ERR_KV_INVALID_VALUE', () => one.attach(sequence)).message).toContain('attached already')
      for (const asked of [other.onboard(sequence, prompt(1, 8)), other.offload(sequence)]) {
        await expect(asked).rejects.toMatchObject({ code: 'ERR_KV_INVALID_VALUE', message: /another cache/ })
      }
      other.detach(sequence)
      expect([one.stats().attached, other.stats().attached]).toEqual([1, 0])
      one.detach(sequence)
      const attachment = other.attach(sequence)
      errorOf('ERR_KV_INVALID_VALUE', () => one.attach(sequence))
      attachment.detach()
      one.attach(sequence)
      await one.close()
      other.attach(sequence)
      await other.close()
    }
    await withManager({}, async (manager) => {
      if (isOther) await withManager({}, async (others) => await run(manager, others))
      else await run(manager, manager)
    })
  })

  test('goes to another, which stores nothing that it did not see, and the first one nothing of the other', async () => {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const one = fakeCache(manager, sequence, { tenant: 'one' }).cache
      const other = fakeCache(manager, sequence, { tenant: 'other' }).cache
      const whole = prompt(1, 24)
      one.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      // The save that is due is still made, of what was there.
      one.detach(sequence)
      other.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8, 16))
      await Promise.all([one.idle(), other.idle()])
      other.detach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(16))
      for (const cache of [one, other]) await cache.offload(sequence)
      expect([held(manager, 'one', whole), held(manager, 'other', whole)]).toEqual([8, 0])
      await one.close()
      await other.close()
    })
  })

  test('and empties meanwhile is still not the first one’s before it is emptied again', async () => {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const one = fakeCache(manager, sequence, { tenant: 'one' }).cache
      const other = fakeCache(manager, sequence, { tenant: 'other' }).cache
      one.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt(1, 8))
      one.detach(sequence)
      other.attach(sequence)
      await sequence.clearHistory()
      await sequence.evaluateWithoutGeneratingNewTokens(prompt(2, 16))
      await other.idle()
      other.detach(sequence)
      await one.offload(sequence)
      expect([held(manager, 'one', prompt(2, 16)), held(manager, 'other', prompt(2, 16))]).toEqual([0, 16])
      one.attach(sequence)
      expect(await ask(sequence, prompt(2, 16))).toBe(0)
      await sequence.evaluateWithoutGeneratingNewTokens(prompt(2, 16))
      await one.idle()
      expect(held(manager, 'one', prompt(2, 16))).toBe(16)
      await one.close()
      await other.close()
    })
  })
})

describe('a sequence that goes to another tenant', () => {
  const whole = prompt(1, 24)

  async function withCache(
    run: (parts: ReturnType<typeof fakeCache> & { manager: BlockManager; sequence: FakeSequence }) => Promise<void>,
  ): Promise<void> {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const parts = fakeCache(manager, sequence)
      await run({ ...parts, manager, sequence })
      await parts.cache.close()
      expect(parts.told).toEqual([])
      expectQuiet(manager)
    })
  }

  test('has nothing for a prompt of theirs, which is computed and theirs then', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 16))
      cache.detach(sequence)
      const bob = cache.attach(sequence, { tenant: 'bob' })
      expect(await ask(sequence, whole)).toBe(0)
      expect(bob.last).toMatchObject({ kept: 0, onboarded: 0, outcome: 'not-held' })
      expect([held(manager, 'alice', whole), held(manager, 'bob', whole)]).toEqual([16, 0])
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      expect([held(manager, 'alice', whole), held(manager, 'bob', whole)]).toEqual([16, 24])
      bob.detach()
      const alice = cache.attach(sequence, { tenant: 'alice' })
      expect(await ask(sequence, whole)).toBe(16)
      expect(alice.last).toMatchObject({ kept: 0, onboarded: 16 })
    })
  })

  test('keeps what it has for the same tenant, attached again', async () => {
    await withCache(async ({ sequence, cache }) => {
      for (const kept of [0, 16]) {
        using attachment = cache.attach(sequence, { tenant: 'alice' })
        expect(await ask(sequence, whole)).toBe(kept)
        expect(attachment.last?.kept).toBe(kept)
        await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(kept, 16))
      }
    })
  })

  test('and evaluates without a prompt has that stored for nobody until the history is cleared', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      cache.detach(sequence)
      const bob = cache.attach(sequence, { tenant: 'bob' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8, 16))
      await cache.idle()
      await cache.offload(sequence)
      expect([held(manager, 'alice', whole), held(manager, 'bob', whole)]).toEqual([8, 0])
      // Less than what was there before is cut off: what comes then is still bob's.
      const again = [...whole.slice(0, 4), ...prompt(2, 12)]
      await sequence.eraseContextTokenRanges([{ start: 4, end: 16 }])
      await sequence.evaluateWithoutGeneratingNewTokens(again.slice(4))
      await cache.idle()
      expect([held(manager, 'alice', again), held(manager, 'bob', again)]).toEqual([4, 0])
      bob.detach()
      // Also where it comes back: a prompt finds no tokens of bob's.
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(prompt(3, 4))
      await cache.idle()
      expect(held(manager, 'alice', again)).toBe(4)
      expect(await ask(sequence, again)).toBe(4)
      await sequence.evaluateWithoutGeneratingNewTokens(again.slice(4))
      await cache.idle()
      expect(held(manager, 'alice', again)).toBe(16)
    })
  })

  test('is stored only as far as it was when it was detached', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      const { detach } = cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      detach()
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8))
      await cache.idle()
      await cache.offload(sequence)
      expect(['alice', 'default'].map((tenant) => held(manager, tenant, whole))).toEqual([8, 0])
      await sequence.clearHistory()
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.offload(sequence)
      expect(['alice', 'default'].map((tenant) => held(manager, tenant, whole))).toEqual([8, 24])
    })
  })

  test('while a prompt’s state is being loaded has it neither loaded nor stored', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 16))
      await cache.idle()
      await sequence.clearHistory()
      const gate = sequence.hold('load')
      const asking = ask(sequence, whole)
      await gate.reached
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'bob' })
      gate.open()
      expect(await asking).toBe(0)
      expect(cache.stats().skipped.aborted).toBe(1)
      // Whoever asked evaluates now: for alice, on a sequence that is bob's.
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      expect([held(manager, 'alice', whole), held(manager, 'bob', whole)]).toEqual([16, 0])
    })
  })

  test('while a step of an evaluation runs keeps what the engine keeps, stored for nobody', async () => {
    await withCache(async ({ manager, sequence, cache }) => {
      cache.attach(sequence, { tenant: 'alice' })
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'bob' })
      const gate = sequence.hold('evaluate')
      const evaluating = sequence.evaluateWithoutGeneratingNewTokens(whole.slice(8, 12))
      await gate.reached
      expect(await ask(sequence, whole)).toBe(8)
      gate.open()
      await evaluating
      await cache.idle()
      await cache.offload(sequence)
      expect(cache.stats().skipped.busy).toBe(1)
      expect([held(manager, 'alice', whole), held(manager, 'bob', whole)]).toEqual([8, 0])
    })
  })
})

describe('a cache is off', () => {
  const whole = prompt(1, 16)

  test('once its manager is closed, says so once, and lets prompts be computed', async () => {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const { cache, told, images } = fakeCache(manager, sequence)
      const keepNone = vi.spyOn(images, 'keepNone')
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      // A save is due.
      expect(keepNone).not.toHaveBeenCalled()
      const closing = manager.close({ flush: false })
      // Nobody will need them again.
      expect(keepNone).toHaveBeenCalledOnce()
      expect(cache.stats()).toMatchObject({ enabled: false, reason: 'The block manager was closed.' })
      await Promise.all([closing, cache.idle()])
      for (const kept of [8, 16]) {
        expect(await ask(sequence, whole)).toBe(kept)
        await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(kept))
        await cache.idle()
      }
      expect(cache.stats().skipped.off).toBe(2)
      expect(await cache.offload(sequence)).toMatchObject({ blocks: 0, message: /off: The block manager was closed/ })
      expect(await cache.prefetch(whole)).toBe(0)
      cache.detach(sequence)
      cache.attach(sequence, { tenant: 'somebody else' })
      expect(await ask(sequence, whole)).toBe(16)
      await cache.close()
      expect(told).toEqual(['disabled: The block manager was closed.'])
    })
  })

  test('when its manager is closed while a state is being loaded, which does not come', async () => {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const { cache, told } = fakeCache(manager, sequence)
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      await sequence.clearHistory()
      const gate = sequence.hold('load')
      const asking = ask(sequence, whole)
      await gate.reached
      const closing = manager.close({ flush: false })
      gate.open()
      expect(await asking).toBe(0)
      await closing
      expect(told).toEqual(['disabled: The block manager was closed.'])
    })
  })

  test('when its manager is closed while a state is being saved, of which nothing is stored', async () => {
    await withManager({}, async (manager) => {
      const sequence = new FakeSequence()
      const { cache, told } = fakeCache(manager, sequence)
      cache.attach(sequence)
      const gate = sequence.hold('save')
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await gate.reached
      const closing = manager.close({ flush: false })
      gate.open()
      await Promise.all([closing, cache.idle()])
      expect(cache.stats().blocksStored).toBe(0)
      expect(told).toEqual(['disabled: The block manager was closed.'])
    })
  })

  test('when it is closed itself, without an event', async () => {
    await withManager({}, async (manager) => {
      const { cache, told } = fakeCache(manager, new FakeSequence())
      await cache.close()
      await manager.close()
      expect(cache.stats()).toMatchObject({ enabled: false, reason: 'The cache was closed.' })
      expect(told).toEqual([])
    })
  })

  test('once LoRA adapters of its context are set anew: nothing is stored or brought any more', async () => {
    await withManager({}, async (manager) => {
      const context = fakeContext()
      const original = context._setLoras
      const sequence = new FakeSequence(context)
      const { cache, told } = fakeCache(manager, sequence)
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole.slice(0, 8))
      await cache.idle()
      await sequence.clearHistory()
      const setting = context._setLoras([])
      // Before the engine has them.
      expect(cache.stats()).toMatchObject({ enabled: false, reason: /LoRA adapters/ })
      await setting
      await context._setLoras([{ filePath: 'other' }])
      expect(await ask(sequence, whole)).toBe(0)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.offload(sequence)
      expect(held(manager, 'default', whole)).toBe(8)
      expect(cache.stats().skipped.off).toBe(1)
      expect(told).toEqual([expect.stringMatching(/^disabled: The LoRA adapters/)])
      await cache.close()
      expect(context._setLoras).toBe(original)
    })
  })

  test('when adapters are set while a state is being loaded, which does not come', async () => {
    await withManager({}, async (manager) => {
      const context = fakeContext()
      const sequence = new FakeSequence(context)
      const { cache } = fakeCache(manager, sequence)
      cache.attach(sequence)
      await sequence.evaluateWithoutGeneratingNewTokens(whole)
      await cache.idle()
      await sequence.clearHistory()
      const gate = sequence.hold('load')
      const asking = ask(sequence, whole)
      await gate.reached
      await context._setLoras([])
      gate.open()
      expect(await asking).toBe(0)
      await cache.close()
    })
  })
})

describe('an onboard from a disk', () => {
  test('that does not answer in time is late, and not lost', async () => {
    await withManager({ ...threads, host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
      const sequence = new FakeSequence()
      const { cache } = fakeCache(manager, sequence)
      await cache.offload(sequence)
      for (const seed of [1, 2]) {
        await sequence.clearHistory()
        await sequence.evaluateWithoutGeneratingNewTokens(prompt(seed, 16))
        await cache.offload(sequence, { until: 'disk' })
      }
      await withHeldIo(async () => {
        vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
        const asking = cache.onboard(sequence, [...prompt(1, 16), 1], { deadlineMs: 20 })
        await untilHeld()
        vi.advanceTimersByTime(20)
        vi.useRealTimers()
        expect(await asking).toMatchObject({ onboarded: 0, outcome: 'late' })
        testing.releaseIo()
      })
      expect(cache.stats().skipped).toMatchObject({ late: 1, lost: 0 })
      await cache.close()
    })
  })
})

describe('what is written to a full disk behind a turn', () => {
  test('does not displace blocks of a higher priority, and does where the disk is asked for by name', async () => {
    await withDirectory(async (directory) => {
      const disk = { directory, capacityBytes: 4 * (TEST_STRIDE + 128) }
      const manager = await BlockManager.open(testOptions(null, { ...threads, disk }))
      const sequence = new FakeSequence()
      const { cache, told } = fakeCache(manager, sequence)
      const onDisk = (): number[] => [manager.stats().counters.diskWrites, manager.stats().counters.evictedFromDisk]
      const turn = async (seed: number, priority: number): Promise<void> => {
        using _ = cache.attach(sequence, { priority })
        const kept = await ask(sequence, prompt(seed, 16))
        await sequence.evaluateWithoutGeneratingNewTokens(prompt(seed, 16).slice(kept))
        await cache.idle()
      }
      await turn(1, 90)
      expect(onDisk()).toEqual([4, 0])
      await turn(2, 50)
      expect(onDisk()).toEqual([4, 0])
      await turn(3, 95)
      expect(onDisk()).toEqual([8, 4])
      await turn(2, 50)
      expect(await cache.offload(sequence, { until: 'disk' })).toMatchObject({ tokens: 16 })
      expect(onDisk()).toEqual([12, 8])
      expect(told).toEqual([])
      await cache.close()
      await manager.close({ flush: false })
    })
  })
})
