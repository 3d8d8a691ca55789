import { describe, expect, test } from 'vitest'
import { fence } from '../../lib/movement/fence.ts'
import { deferred } from '../support/deferred.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled } from '../support/io.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet } from '../support/outcomes.ts'
import { compute, load, store } from '../support/slots.ts'

describe('a sequence', () => {
  test('counts its tokens and its whole blocks as it grows', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence([], { tenant: 'a' })
      expect([sequence.tokenCount, sequence.blockCount]).toEqual([0, 0])
      sequence.append([1, 2, 3])
      expect([sequence.tokenCount, sequence.blockCount]).toEqual([3, 0])
      sequence.append(Uint32Array.of(4, 5, 6, 7, 8))
      expect([sequence.tokenCount, sequence.blockCount]).toEqual([8, 2])
    })
  })

  test('takes all tokens of an append or none', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 6), { tenant: 'a' })
      errorOf('ERR_KV_INVALID_TOKEN', () => sequence.append([1, 2, -3]))
      errorOf('ERR_KV_INVALID_TYPE', () => sequence.append('1 2' as never))
      expect(sequence.tokenCount).toBe(6)
      sequence.append(tokens(1, 8).slice(6))
      await store(manager, manager.sequence(tokens(1, 8), { tenant: 'a' }))
      expect(sequence.match().tokens).toBe(8)
    })
  })

  test('long enough to be hashed on another thread has the same identity, and may grow meanwhile', async () => {
    await withManager({}, async (manager) => {
      const prompt = tokens(1, 40_000)
      const sequence = manager.sequence(prompt.slice(0, 20_000), { tenant: 'a' })
      const prepared = sequence.prepare()
      sequence.append(prompt.slice(20_000))
      await prepared
      await sequence.prepare()
      const other = manager.sequence(prompt, { tenant: 'a' })
      other.hashes.hashBlocks()
      expect(Buffer.from(sequence.hashes.bytes).equals(Buffer.from(other.hashes.bytes))).toBe(true)
      await store(manager, sequence, { blocks: 8 })
      expect(other.match().tokens).toBe(32)
    })
  })

  test('that grows while a transfer runs stores what it had at the call', async () => {
    await withManager({ engine: { threads: 8 } }, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const slots = manager.device.reserve(4)
      await compute(manager, sequence, slots, 0)
      const produced = deferred()
      const after = fence.promise(produced.promise)
      const transfer = sequence.offload({ from: slots, after })
      expect(await isSettled(transfer.done)).toBe(false)
      for (let i = 0; i < 50; i++) sequence.append(tokens(2, 64))
      produced.resolve()
      expect(codesOf(await transfer.done)).toEqual(Array(4).fill('OK'))
      await transfer.settled
      slots.release()
      expect(sequence.match().tokens).toBe(16)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(manager)
    })
  })

  test('with other extra keys, for all blocks or from one token on, is another one from there', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      const held = (options: object) => manager.sequence(tokens(1, 16), { tenant: 'a', ...options }).match().tokens
      expect(held({})).toBe(16)
      expect(held({ extraKeys: ['lora-7'] })).toBe(0)
      expect(held({ extraKeysAt: [{ token: 9, key: 'image-1' }] })).toBe(8)
      const adapted = manager.sequence(tokens(1, 16), { tenant: 'a', extraKeys: ['lora-7'] })
      await store(manager, adapted)
      expect(held({ extraKeys: ['lora-7'] })).toBe(16)
      expect(held({ extraKeys: ['lora-8'] })).toBe(0)
      expect(await load(manager, adapted)).toMatchObject({ tokens: 16, wrong: 0 })
    })
  })
})

describe('a call is refused before anything moves', () => {
  const onboards: [string, object | null, string][] = [
    ['no options', null, 'ERR_KV_INVALID_TYPE'],
    ['no fence', {}, 'ERR_KV_INVALID_TYPE'],
    ['slots for owned memory', { after: fence.quiet(), into: Uint32Array.of(0) }, 'ERR_KV_INVALID_VALUE'],
    ['negative blocks', { after: fence.quiet(), maxBlocks: -1 }, 'ERR_KV_INVALID_VALUE'],
    ['half a block', { after: fence.quiet(), maxBlocks: 0.5 }, 'ERR_KV_INVALID_VALUE'],
    ['a negative deadline', { after: fence.quiet(), deadlineMs: -1 }, 'ERR_KV_INVALID_VALUE'],
    ['a deadline that is text', { after: fence.quiet(), deadlineMs: '5' }, 'ERR_KV_INVALID_TYPE'],
    ['a deadline beyond timers', { after: fence.quiet(), deadlineMs: 2 ** 31 }, 'ERR_KV_INVALID_VALUE'],
    ['a signal that is none', { after: fence.quiet(), signal: { aborted: false } }, 'ERR_KV_INVALID_TYPE'],
  ]
  test.each(onboards)('onboard with %s', async (_, options, code) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      errorOf(code as 'ERR_KV_INVALID_TYPE', () => sequence.onboard(options as never))
      expectQuiet(manager)
    })
  })

  const offloads: [string, object | null, string][] = [
    ['no options', null, 'ERR_KV_INVALID_TYPE'],
    ['no fence', { after: undefined }, 'ERR_KV_INVALID_TYPE'],
    ['an unknown tier', { until: 'tape' }, 'ERR_KV_INVALID_VALUE'],
    ['a negative first block', { firstBlock: -1 }, 'ERR_KV_INVALID_VALUE'],
    ['a first block beyond the end', { firstBlock: 1 }, 'ERR_KV_NO_WHOLE_BLOCK'],
    ['more blocks than slots', { blockCount: 5 }, 'ERR_KV_INVALID_VALUE'],
    ['no blocks', { blockCount: 0 }, 'ERR_KV_NO_WHOLE_BLOCK'],
    ['slots that kvtier did not give', { from: Uint32Array.of(0, 1, 2, 3) }, 'ERR_KV_INVALID_TYPE'],
    ['a signal that is none', { signal: 1 }, 'ERR_KV_INVALID_TYPE'],
  ]
  test.each(offloads)('offload with %s', async (_, options, code) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 19), { tenant: 'a' })
      const from = manager.device.reserve(4)
      const given = options === null ? null : { from, after: fence.quiet(), ...options }
      errorOf(code as 'ERR_KV_INVALID_TYPE', () => sequence.offload(given as never))
      from.release()
      expectQuiet(manager)
    })
  })
})
