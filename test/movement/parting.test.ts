import { afterEach, expect, test, vi } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { partingOf } from '../../lib/movement/parting.ts'
import { HYBRID, strideOf, WINDOWED } from '../support/layouts.ts'
import { TEST_LAYOUT, tokens, withManager } from '../support/manager.ts'
import { store } from '../support/slots.ts'

afterEach(() => vi.restoreAllMocks())

/** The first `shared` tokens of prompt 1, then tokens of its own, `count` in all. */
function prompt(seed: number, shared: number, count: number): Uint32Array {
  const mixed = tokens(seed, count)
  mixed.set(tokens(1, shared))
  return mixed
}

function partingAt(manager: BlockManager, words: Uint32Array, tenant = 'a'): number {
  const sequence = manager.sequence(words, { tenant })
  const { blockCount } = sequence
  sequence.match()
  return partingOf(manager.internals.context, sequence.hashes.words, blockCount)
}

test.each([
  ['full attention', TEST_LAYOUT],
  ['a window', WINDOWED],
  ['a window and a state', HYBRID],
])('with %s a prompt parts where what is stored goes on otherwise', async (_, layout) => {
  await withManager({ layout, host: { capacityBytes: 32 * strideOf(layout) } }, async (manager) => {
    const sixBlocks = prompt(1, 24, 24)
    expect(partingAt(manager, sixBlocks)).toBe(0)
    await store(manager, manager.sequence(sixBlocks, { tenant: 'a' }))
    expect(partingAt(manager, prompt(2, 12, 24))).toBe(3)
    // In the middle of a block: behind the last one that is the same.
    expect(partingAt(manager, prompt(2, 15, 24))).toBe(3)
    expect(partingAt(manager, prompt(2, 20, 21))).toBe(0)
    // Nothing in common, or another tenant's.
    expect(partingAt(manager, prompt(2, 3, 24))).toBe(0)
    expect(partingAt(manager, prompt(2, 12, 24), 'b')).toBe(0)
  })
})

test('a prompt that only goes on parts from nothing', async () => {
  await withManager({ layout: WINDOWED }, async (manager) => {
    await store(manager, manager.sequence(prompt(1, 16, 16), { tenant: 'a' }))
    for (const count of [0, 3, 8, 16, 24]) expect(partingAt(manager, prompt(1, count, count))).toBe(0)
    await store(manager, manager.sequence(prompt(2, 16, 32), { tenant: 'a' }))
    expect(partingAt(manager, prompt(1, 32, 32))).toBe(4)
  })
})

test('what is on its way is no other prompt', async () => {
  await withManager({}, async (manager) => {
    const whole = manager.sequence(prompt(1, 24, 24), { tenant: 'a' })
    await store(manager, manager.sequence(prompt(1, 8, 8), { tenant: 'a' }))
    const reservation = await manager.host.reserve(whole)
    expect(reservation.needs(2)).toBe(true)
    expect(partingAt(manager, prompt(1, 24, 24))).toBe(0)
    reservation.release()
  })
})

test('an expired block is the same prompt still', async () => {
  await withManager({}, async (manager) => {
    await store(manager, manager.sequence(prompt(1, 8, 8), { tenant: 'a' }))
    await store(manager, manager.sequence(prompt(1, 24, 24), { tenant: 'a', ttlMs: 1000 }))
    const now = Date.now()
    vi.spyOn(Date, 'now').mockReturnValue(now + 5000)
    expect(partingAt(manager, prompt(1, 24, 24))).toBe(0)
  })
})
