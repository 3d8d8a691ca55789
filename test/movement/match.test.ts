import { afterEach, describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { diskStrideOf, HYBRID, strideOf, WINDOWED } from '../support/layouts.ts'
import { testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

/** A manager of several layer groups: 32 blocks in each of device and host memory. */
function manyGroups(layout: typeof WINDOWED, leaveLastBlock = false) {
  return { layout, host: { capacityBytes: 32 * strideOf(layout) }, leaveLastBlock }
}

/** The first `shared` tokens of prompt `seed`, then tokens of its own, `count` in all. */
function branch(seed: number, shared: number, count: number): Uint32Array {
  const mixed = tokens(seed + 50, count)
  mixed.set(tokens(seed, shared))
  return mixed
}

describe('with full attention', () => {
  test('an empty manager holds nothing', async () => {
    await withManager({}, async (manager) => {
      const match = manager.sequence(tokens(1, 16), { tenant: 'a' }).match()
      expect(match).toEqual({ tokens: 0, blocks: 0, byTier: { device: 0, host: 0, disk: 0 }, stoppedBy: 'not-held' })
    })
  })

  test('a prompt shorter than a block, and an empty one, match nothing and end there', async () => {
    await withManager({}, async (manager) => {
      for (const count of [0, 1, 3]) {
        const match = manager.sequence(tokens(1, count), { tenant: 'a' }).match()
        expect(match).toMatchObject({ tokens: 0, blocks: 0, stoppedBy: 'prompt-end' })
      }
    })
  })

  test('the match is the longest run of whole blocks that is held, from the first', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      const held = (seed: number, count: number) => manager.sequence(tokens(seed, count), { tenant: 'a' }).match()
      expect(held(1, 16)).toMatchObject({ tokens: 16, blocks: 4, stoppedBy: 'prompt-end' })
      expect(held(1, 19)).toMatchObject({ tokens: 16, blocks: 4, stoppedBy: 'prompt-end' })
      expect(held(1, 20)).toMatchObject({ tokens: 16, blocks: 4, stoppedBy: 'not-held' })
      expect(held(1, 15)).toMatchObject({ tokens: 12, blocks: 3, stoppedBy: 'prompt-end' })
      expect(held(2, 16)).toMatchObject({ tokens: 0, stoppedBy: 'not-held' })
      const late = manager.sequence(branch(1, 10, 24), { tenant: 'a' }).match()
      expect(late).toMatchObject({ tokens: 8, blocks: 2, stoppedBy: 'not-held' })
    })
  })

  test('one other token in the first block makes the whole prompt another one', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      const other = tokens(1, 32)
      other[0] = 9
      expect(manager.sequence(other, { tenant: 'a' }).match().tokens).toBe(0)
    })
  })

  test('tokens appended later continue the same identity', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      const grown = manager.sequence(tokens(1, 32).slice(0, 6), { tenant: 'a' })
      expect(grown.match().tokens).toBe(4)
      grown.append(tokens(1, 32).slice(6, 7))
      expect(grown.match().tokens).toBe(4)
      grown.append(Array.from(tokens(1, 32).slice(7, 31)))
      expect(grown.match().tokens).toBe(28)
      grown.append(Int32Array.from(tokens(1, 32).slice(31)))
      expect(grown.match()).toMatchObject({ tokens: 32, stoppedBy: 'prompt-end' })
    })
  })

  test('leaveLastBlock leaves a block to compute only where the prompt ends with a whole block that is held', async () => {
    await withManager({ leaveLastBlock: true }, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      const held = (count: number) => manager.sequence(tokens(1, count), { tenant: 'a' }).match()
      expect(held(16)).toMatchObject({ tokens: 12, stoppedBy: 'last-block-left' })
      expect(held(17)).toMatchObject({ tokens: 16, stoppedBy: 'prompt-end' })
      expect(held(20)).toMatchObject({ tokens: 16, stoppedBy: 'not-held' })
      expect(held(4)).toMatchObject({ tokens: 0, stoppedBy: 'last-block-left' })
      expect(held(8)).toMatchObject({ tokens: 4, stoppedBy: 'last-block-left' })
    })
  })

  test('tokens by tier add up to the match, wherever its blocks are', async () => {
    await withManager({ host: { capacityBytes: 6 * 16_384 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence, { until: 'disk' })
      expect(sequence.match().byTier).toEqual({ device: 16, host: 0, disk: 0 })
      emptyDevice(manager)
      expect(sequence.match().byTier).toEqual({ device: 0, host: 16, disk: 0 })
      // Another prompt takes 4 of the 6 host slots: only the first 2 blocks, which leave last, stay there.
      await store(manager, manager.sequence(tokens(2, 16), { tenant: 'a' }))
      emptyDevice(manager)
      expect(sequence.match().byTier).toEqual({ device: 0, host: 8, disk: 8 })
      const { result } = await load(manager, manager.sequence(tokens(1, 4), { tenant: 'a' }))
      expect(result.tokens).toBe(4)
      expect(sequence.match()).toMatchObject({ tokens: 16, byTier: { device: 4, host: 4, disk: 8 } })
    })
  })

  test('a block that is only reserved is being stored, and not matched', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const reservation = await manager.host.reserve(sequence)
      expect(sequence.match()).toMatchObject({ tokens: 0, stoppedBy: 'being-stored' })
      await reservation.publish()
      expect(sequence.match()).toMatchObject({ tokens: 8, stoppedBy: 'prompt-end' })
    })
  })

  test('an expired block ends the match, in memory and after a restart', async () => {
    await withDirectory(async (directory) => {
      const start = 1_800_000_000_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(start)
      const manager = await BlockManager.open(testOptions(directory))
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a', ttlMs: 5_000 }), { until: 'disk' })
      const match = () => manager.sequence(tokens(1, 16), { tenant: 'a' }).match()
      clock.mockReturnValue(start + 4_000)
      expect(match()).toMatchObject({ tokens: 16 })
      clock.mockReturnValue(start + 6_000)
      expect(match()).toMatchObject({ tokens: 0, stoppedBy: 'expired' })
      await manager.close()
      const next = await BlockManager.open(testOptions(directory))
      expect(next.sequence(tokens(1, 16), { tenant: 'a' }).match().tokens).toBe(0)
      await next.close()
    })
  })

  test('matches count what was asked and found', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      manager.sequence(tokens(1, 18), { tenant: 'a' }).match()
      manager.sequence(tokens(2, 5), { tenant: 'a' }).match()
      expect(manager.stats().counters).toMatchObject({ matches: 2, tokensAsked: 23, tokensMatched: 16 })
    })
  })
})

describe('with a sliding window of 6 tokens', () => {
  test('only the last window before n is needed: its earlier blocks are not stored at all', async () => {
    await withManager(manyGroups(WINDOWED), async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      // 4 full blocks, and the 2 window blocks that a token at position 16 sees.
      expect(manager.stats().tiers.host.held).toBe(6)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      expect(sequence.match()).toMatchObject({ tokens: 16, stoppedBy: 'prompt-end' })
      expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0, checked: 6 })
      expectQuiet(manager)
    })
  })

  test('a shorter prefix is held only where its own window is, and the match says that the window ended it', async () => {
    await withManager(manyGroups(WINDOWED), async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      const sharing = manager.sequence(branch(1, 12, 16), { tenant: 'a' })
      expect(sharing.match()).toMatchObject({ tokens: 0, stoppedBy: 'window-not-held' })
      expect((await load(manager, sharing)).tokens).toBe(0)
    })
  })

  test('a chat that is stored turn by turn can be continued from every turn', async () => {
    await withManager(manyGroups(WINDOWED), async (manager) => {
      const chat = manager.sequence(tokens(1, 12), { tenant: 'a' })
      await store(manager, chat)
      chat.append(tokens(1, 24).slice(12))
      await store(manager, chat, { firstBlock: 3 })
      for (const [shared, held] of [
        [12, 12],
        [14, 12],
        [20, 12],
        [24, 24],
      ] as const) {
        const other = manager.sequence(branch(1, shared, 28), { tenant: 'a' })
        expect(other.match().tokens, `${shared} tokens shared`).toBe(held)
        expect(await load(manager, other)).toMatchObject({ tokens: held, wrong: 0 })
      }
      expectQuiet(manager)
    })
  })

  test('a window block that was lost shortens the match to a prefix whose window is held', async () => {
    await withManager(manyGroups(WINDOWED), async (manager) => {
      const chat = manager.sequence(tokens(1, 24), { tenant: 'a' })
      for (let first = 0; first < 6; first += 2) await store(manager, chat, { firstBlock: first, blocks: 2 })
      expect(chat.match()).toMatchObject({ tokens: 24, stoppedBy: 'prompt-end' })
      const more = manager.sequence(tokens(1, 28), { tenant: 'a' })
      expect(more.match()).toMatchObject({ tokens: 24, stoppedBy: 'not-held' })
    })
  })
})

describe('with a recurrent state', () => {
  test('a prefix is held where a snapshot was taken, and nowhere else', async () => {
    await withManager(manyGroups(HYBRID), async (manager) => {
      const chat = manager.sequence(tokens(1, 24), { tenant: 'a' })
      await store(manager, chat, { blocks: 2 })
      await store(manager, chat, { firstBlock: 2, blocks: 3 })
      for (const [shared, held] of [
        [4, 0],
        [8, 8],
        [12, 8],
        [16, 8],
        [20, 20],
        [24, 20],
      ] as const) {
        const other = manager.sequence(branch(1, shared, 28), { tenant: 'a' })
        expect(other.match().tokens, `${shared} tokens shared`).toBe(held)
        expect(await load(manager, other)).toMatchObject({ tokens: held, wrong: 0 })
      }
      expectQuiet(manager)
    })
  })

  test('the snapshot of a prompt survives a restart with its prefix', async () => {
    await withDirectory(async (directory) => {
      const options = {
        ...manyGroups(HYBRID),
        disk: { directory, capacityBytes: 64 * diskStrideOf(HYBRID) },
      }
      const manager = await BlockManager.open(testOptions(null, options))
      await store(manager, manager.sequence(tokens(1, 20), { tenant: 'a' }), { until: 'disk' })
      await manager.close()
      const next = await BlockManager.open(testOptions(null, options))
      const sequence = next.sequence(tokens(1, 22), { tenant: 'a' })
      expect(sequence.match()).toMatchObject({ tokens: 20, byTier: { disk: 20 }, stoppedBy: 'prompt-end' })
      expect(await load(next, sequence)).toMatchObject({ tokens: 20, wrong: 0 })
      expectQuiet(next)
      await next.close()
    })
  })
})

test('a prompt that was stored whole is matched to its last block but one when it is asked for again, in every layout', async () => {
  for (const layout of [WINDOWED]) {
    await withManager(manyGroups(layout, true), async (manager) => {
      await store(manager, manager.sequence(tokens(1, 24), { tenant: 'a' }))
      const again = manager.sequence(tokens(1, 24), { tenant: 'a' })
      expect(again.match()).toMatchObject({ tokens: 20, stoppedBy: 'last-block-left' })
      expect(await load(manager, again)).toMatchObject({ tokens: 20, wrong: 0 })
    })
  }
})

test('maxBlocks bounds an onboard, not the match', async () => {
  await withManager({}, async (manager) => {
    await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
    const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
    for (const maxBlocks of [0, 1, 5, 8, 9]) {
      const transfer = sequence.onboard({ after: fence.quiet(), maxBlocks })
      const result = await transfer.done
      expect(result.tokens).toBe(Math.min(maxBlocks, 8) * 4)
      result.pin?.release()
    }
    expect(sequence.match().tokens).toBe(32)
  })
})
