import { describe, expect, test } from 'vitest'
import { Events, type ManagerEvents } from '../lib/events.ts'
import { errorOf } from './support/expect-code.ts'
import { withFaults } from './support/io.ts'
import { TEST_STRIDE, tokens, withManager } from './support/manager.ts'
import { emptyDevice, load, store } from './support/slots.ts'

const EVENT = { tier: 'host', blocks: 1, group: 'full' } as const

describe('an emitter', () => {
  test('calls every listener of that name, once each, until it is taken off', () => {
    const events = new Events()
    const seen: string[] = []
    const one = (): number => seen.push('one')
    const two = (): number => seen.push('two')
    events.on('stored', one)
    events.on('stored', one)
    events.on('stored', two)
    events.on('evicted', two)
    events.emit('stored', EVENT)
    events.off('stored', one)
    events.off('lost', one)
    events.emit('stored', EVENT)
    events.emit('lost', { ...EVENT, reason: 'x' })
    expect(seen).toEqual(['one', 'two', 'two'])
  })

  test('goes on when a listener throws, and tells the process', async () => {
    const events = new Events()
    const seen: ManagerEvents['stored'][] = []
    const uncaught: unknown[] = []
    const before = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => uncaught.push(error))
    try {
      events.on('stored', () => {
        throw new Error('listener')
      })
      events.on('stored', (event) => seen.push(event))
      events.emit('stored', EVENT)
      await new Promise((resolve) => setImmediate(resolve))
    } finally {
      process.removeAllListeners('uncaughtException')
      for (const each of before) process.on('uncaughtException', each)
    }
    expect(seen).toEqual([EVENT])
    expect(uncaught).toMatchObject([{ message: 'listener' }])
  })

  test('lets a listener take itself off while it is called', () => {
    const events = new Events()
    let calls = 0
    const once = (): void => {
      calls++
      events.off('stored', once)
    }
    events.on('stored', once)
    events.emit('stored', EVENT)
    events.emit('stored', EVENT)
    expect(calls).toBe(1)
  })
})

describe('listening', () => {
  const nobody = (): void => undefined

  test.each(['on', 'off'] as const)('%s refuses a name that no event has, with the nearest', (method) => {
    const events = new Events()
    const error = errorOf('ERR_KV_INVALID_VALUE', () => events[method]('strored' as 'stored', nobody))
    expect(error.message).toContain('"strored"')
    expect(error.message).toContain("Did you mean 'stored'?")
    for (const name of ['constructor', '', 'storedX1234'])
      errorOf('ERR_KV_INVALID_VALUE', () => events[method](name as 'stored', nobody))
    for (const name of [undefined, null, 5, Symbol('stored'), Object.create(null)])
      errorOf('ERR_KV_INVALID_TYPE', () => events[method](name as 'stored', nobody))
  })

  test.each(['on', 'off'] as const)('%s refuses a listener that is no function', (method) => {
    for (const listener of [null, undefined, {}, 'f'])
      errorOf('ERR_KV_INVALID_TYPE', () => new Events()[method]('stored', listener as never))
  })
})

describe('a manager tells', () => {
  test('what was stored, where, and what left', async () => {
    await withManager({ host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
      const counts: Record<string, number> = {}
      const note = (name: string) => (event: { tier: string; blocks: number; group: string }) => {
        expect(event.group).toBe('full')
        counts[`${name} ${event.tier}`] = (counts[`${name} ${event.tier}`] ?? 0) + event.blocks
      }
      manager.on('stored', note('stored')).on('evicted', note('evicted'))
      for (const seed of [1, 2])
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      emptyDevice(manager)
      expect(counts).toEqual({ 'stored host': 8, 'stored disk': 8, 'evicted host': 4, 'evicted device': 8 })
      const { counters } = manager.stats()
      expect(counters).toMatchObject({ offloadedToHost: 8, diskWrites: 8, evictedFromHost: 4, evictedFromDevice: 8 })
    })
  })

  test('what was lost, and which tier failed', async () => {
    await withManager({ host: { capacityBytes: 4 * TEST_STRIDE } }, async (manager) => {
      const lost: ManagerEvents['lost'][] = []
      const failed: ManagerEvents['tierFailed'][] = []
      manager.on('lost', (event) => lost.push(event)).on('tierFailed', (event) => failed.push(event))
      for (const seed of [1, 2])
        await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }), { until: 'disk' })
      emptyDevice(manager)
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await withFaults({ seed: 1, readError: 1 }, () => load(manager, sequence))
      expect(failed).toMatchObject([{ tier: 'disk', code: 'ERR_KV_IO', message: expect.stringContaining('reading') }])
      expect(lost).toEqual([])
      await withFaults({ seed: 1, readFlip: 1 }, () => load(manager, sequence))
      expect(lost.reduce((sum, event) => sum + event.blocks, 0)).toBe(manager.stats().counters.lost)
      expect(lost[0]).toMatchObject({ tier: 'disk', group: 'full', reason: 'ERR_KV_CHECKSUM' })
      for (const event of lost) expect(event.blocks).toBeGreaterThan(0)
    })
  })

  test('nothing to a listener that was taken off', async () => {
    await withManager({}, async (manager) => {
      const seen: unknown[] = []
      const note = (event: unknown): number => seen.push(event)
      manager.on('stored', note).off('stored', note)
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      expect(seen).toEqual([])
    })
  })
})
