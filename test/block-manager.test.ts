import { chmodSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { BlockManager } from '../lib/block-manager.ts'
import { TierBlocks } from '../lib/blocks/tier-blocks.ts'
import { KvError } from '../lib/errors.ts'
import { defineLayout, type ModelLayout } from '../lib/identity/model-layout.ts'
import { SHARED } from '../lib/identity/salt.ts'
import { fence } from '../lib/movement/fence.ts'
import type { Sequence } from '../lib/movement/sequence.ts'
import type { ManagerOptions } from '../lib/options.ts'
import { LeafQueue } from '../lib/policy/eviction/leaf-queue.ts'
import { TEST_LAYOUT, TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from './support/manager.ts'
import { store } from './support/slots.ts'

/** The code that opening with these options throws. */
async function openCode(options: unknown): Promise<string> {
  try {
    const manager = await BlockManager.open(options as ManagerOptions)
    await manager.close()
    return 'opened'
  } catch (error) {
    return error instanceof KvError ? error.code : String(error)
  }
}

function codeOf(run: () => unknown): string {
  try {
    run()
    return 'returned'
  } catch (error) {
    return error instanceof KvError ? error.code : String(error)
  }
}

describe('opening', () => {
  const wrongTypes: [string, Record<string, unknown>][] = [
    ['options that are no object', null as unknown as Record<string, unknown>],
    ['a layout that is text', { layout: 'llama' }],
    ['a model that is a number', { model: 7 }],
    ['a host that is missing', { host: undefined }],
    ['a capacity that is text', { host: { capacityBytes: '1GiB' } }],
    ['a directory that is a number', { disk: { directory: 7, capacityBytes: 1 } }],
    ['regions that are no arrays', { device: { kind: 'host', slots: 1, regions: { full: [1] } } }],
    ['a policy that is no name', { evictionPolicy: 7 }],
    ['a flag that is a number', { leaveLastBlock: 1 }],
  ]
  test.each(wrongTypes)('refuses %s with ERR_KV_INVALID_TYPE', async (_, changes) => {
    const options = changes === null ? null : { ...testOptions(null), ...changes }
    expect(await openCode(options)).toBe('ERR_KV_INVALID_TYPE')
  })

  const wrongValues: [string, Record<string, unknown>][] = [
    ['a capacity that is NaN', { host: { capacityBytes: Number.NaN } }],
    ['a negative capacity', { host: { capacityBytes: -1 } }],
    ['a capacity with a fraction', { host: { capacityBytes: 1.5 } }],
    ['2^32 device slots', { device: { kind: 'host', slots: 2 ** 32 } }],
    ['an unknown option', { capacity: 1 }],
    ['an unknown device kind', { device: { kind: 'tpu', slots: 1 } }],
    ['a short secret', { secret: 'short' }],
    ['a directory with a NUL', { disk: { directory: 'a\0b', capacityBytes: 1 } }],
  ]
  test.each(wrongValues)('refuses %s with ERR_KV_INVALID_VALUE', async (_, changes) => {
    expect(await openCode({ ...testOptions(null), ...changes })).toBe('ERR_KV_INVALID_VALUE')
  })

  test('refuses device memory of kind cuda with a message that says what works', async () => {
    expect(await openCode({ ...testOptions(null), device: { kind: 'cuda', slots: 1 } })).toBe('ERR_KV_UNSUPPORTED')
  })

  test('refuses an eviction policy that is not in the catalog', async () => {
    expect(await openCode(testOptions(null, { evictionPolicy: 'mru' }))).toBe('ERR_KV_UNKNOWN_POLICY')
  })

  test('refuses capacities smaller than one block', async () => {
    expect(await openCode(testOptions(null, { host: { capacityBytes: TEST_STRIDE - 1 } }))).toBe(
      'ERR_KV_CAPACITY_TOO_SMALL',
    )
    await withDirectory(async (directory) => {
      const disk = { directory, capacityBytes: TEST_STRIDE }
      expect(await openCode(testOptions(null, { disk }))).toBe('ERR_KV_CAPACITY_TOO_SMALL')
    })
  })

  test('refuses memory that the machine does not have', async () => {
    expect(await openCode(testOptions(null, { host: { capacityBytes: 2 ** 50 } }))).toMatch(
      /OUT_OF_MEMORY|INVALID_VALUE/,
    )
  })

  test('refuses borrowed regions of the wrong size, and groups without one', async () => {
    const regions = { full: [new Uint8Array(4096)] }
    const device = { kind: 'host', slots: 4, layout: 'contiguous', regions } as const
    expect(await openCode(testOptions(null, { device }))).toBe('ERR_KV_INVALID_VALUE')
    expect(await openCode(testOptions(null, { device: { ...device, regions: {} } }))).toBe('ERR_KV_INVALID_VALUE')
  })
})

describe('the disk tier', () => {
  test('refuses a directory that is a file', async () => {
    await withDirectory(async (directory) => {
      const file = join(directory, 'file')
      writeFileSync(file, 'x')
      expect(await openCode(testOptions(file))).toBe('ERR_KV_NOT_A_DIRECTORY')
      expect(await openCode(testOptions(join(file, 'below')))).toBe('ERR_KV_NOT_A_DIRECTORY')
    })
  })

  test('refuses a directory that others may write to', async () => {
    await withDirectory(async (directory) => {
      chmodSync(directory, 0o777)
      expect(await openCode(testOptions(directory))).toBe('ERR_KV_UNSAFE_DIRECTORY')
    })
  })

  test('refuses a directory that another manager has open, and opens it once that is closed', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      expect(await openCode(testOptions(directory))).toBe('ERR_KV_LOCKED')
      await manager.close()
      expect(await openCode(testOptions(directory))).toBe('opened')
    })
  })

  test('refuses a capacity that the file system does not have, and leaves nothing behind', async () => {
    await withDirectory(async (directory) => {
      const disk = { directory, capacityBytes: 2 ** 52 }
      expect(await openCode(testOptions(null, { disk }))).toMatch(/NO_SPACE|OUT_OF_MEMORY/)
      expect(await openCode(testOptions(directory))).toBe('opened')
    })
  })

  test('keeps another layout of the same model apart instead of reading it', async () => {
    await withDirectory(async (directory) => {
      expect(await openCode(testOptions(directory))).toBe('opened')
      const other = defineLayout({ ...TEST_LAYOUT, tokensPerBlock: 8 })
      expect(await openCode(testOptions(directory, { layout: other }))).toBe('opened')
      expect(readdirSync(join(directory, 'v1')).filter((name) => /^[0-9a-f]{32}$/.test(name))).toHaveLength(2)
    })
  })

  test.each(['group-0.table', 'group-0.slab'])(
    'opens cold, and works, when %s is truncated or garbage',
    async (name) => {
      await withDirectory(async (directory) => {
        await storeOnce(directory)
        const [fingerprint] = readdirSync(join(directory, 'v1')).filter((each) => /^[0-9a-f]{32}$/.test(each))
        const file = join(directory, 'v1', fingerprint ?? '', name)
        truncateSync(file, 100)
        expect(await heldTokens(directory)).toBeLessThanOrEqual(16)
        await storeOnce(directory)
        writeFileSync(file, Buffer.alloc(200_000, 0x5a))
        expect(await heldTokens(directory)).toBeLessThanOrEqual(16)
        await storeOnce(directory)
        expect(await heldTokens(directory)).toBe(16)
      })
    },
  )

  async function storeOnce(directory: string): Promise<void> {
    const manager = await BlockManager.open(testOptions(directory))
    const { PatternEngine } = await import('../lib/cli/pattern-engine.ts')
    const tally = await new PatternEngine(manager).serve(manager.sequence(tokens(1, 16), { tenant: 'a' }), {
      until: 'disk',
    })
    expect(tally.wrongBlocks).toBe(0)
    await manager.close()
  }

  /** Tokens that arrive with right bytes. */
  async function heldTokens(directory: string): Promise<number> {
    const manager = await BlockManager.open(testOptions(directory))
    const { PatternEngine } = await import('../lib/cli/pattern-engine.ts')
    const tally = await new PatternEngine(manager).serve(manager.sequence(tokens(1, 16), { tenant: 'a' }))
    expect(tally.wrongBlocks).toBe(0)
    await manager.close({ flush: false })
    return tally.verifiedBlocks * 4
  }
})

describe('sequences', () => {
  test.each([
    ['NaN', [1, Number.NaN]],
    ['a negative token', [-1]],
    ['2^32', [2 ** 32]],
    ['a fraction', [0.5]],
    ['text', ['1']],
  ])('refuse %s with ERR_KV_INVALID_TOKEN', async (_, bad) => {
    await withManager({}, async (manager) => {
      expect(codeOf(() => manager.sequence(bad as number[], { tenant: 'a' }))).toBe('ERR_KV_INVALID_TOKEN')
    })
  })

  test('refuse what is no array, and arrays that were detached', async () => {
    await withManager({}, async (manager) => {
      expect(codeOf(() => manager.sequence('1 2 3' as unknown as number[], { tenant: 'a' }))).toBe(
        'ERR_KV_INVALID_TYPE',
      )
      const detached = tokens(1, 8)
      structuredClone(detached.buffer, { transfer: [detached.buffer as ArrayBuffer] })
      expect(codeOf(() => manager.sequence(detached, { tenant: 'a' }))).toBe('ERR_KV_DETACHED_ARRAY')
    })
  })

  test('need a tenant that is spelled out', async () => {
    await withManager({}, async (manager) => {
      expect(codeOf(() => manager.sequence([1], {} as { tenant: string }))).toBe('ERR_KV_INVALID_TYPE')
      expect(codeOf(() => manager.sequence([1], { tenant: '' }))).toBe('ERR_KV_INVALID_VALUE')
      expect(codeOf(() => manager.sequence([1], { tenant: SHARED }))).toBe('returned')
    })
  })

  test.each([
    ['priority', -1],
    ['priority', 101],
    ['ttlMs', -1],
    ['ttlMs', Number.NaN],
  ])('refuse %s %d', async (name, value) => {
    await withManager({}, async (manager) => {
      expect(codeOf(() => manager.sequence([1], { tenant: 'a', [name]: value }))).toBe('ERR_KV_INVALID_VALUE')
    })
  })
})

describe('a call', () => {
  const slots = new Uint32Array(1)
  const after = fence.quiet()
  type Call = (manager: BlockManager, sequence: Sequence, options: Record<string, unknown>) => unknown
  const calls: [string, Call, Record<string, unknown>, string, string][] = [
    ['sequence', (manager, _, o) => manager.sequence([1], o as never), { tenant: 'a' }, 'priorty', 'priority'],
    ['sequence.onboard', (_, sequence, o) => sequence.onboard(o as never), { after }, 'deadlinems', 'deadlineMs'],
    ['sequence.offload', (_, sequence, o) => sequence.offload(o as never), { after, from: slots }, 'untill', 'until'],
    ['flush', (manager, _, o) => manager.flush(o), {}, 'synk', 'sync'],
    ['close', (manager, _, o) => manager.close(o), {}, 'deadline', 'deadlineMs'],
    ['host.reserve', (manager, sequence, o) => manager.host.reserve(sequence, o), {}, 'firstblock', 'firstBlock'],
    ['host.load', (manager, sequence, o) => manager.host.load(sequence, o), {}, 'maxBlock', 'maxBlocks'],
    [
      'publish',
      async (manager, sequence, o) => {
        const reservation = await manager.host.reserve(sequence)
        try {
          await reservation.publish(o)
        } finally {
          expect(reservation.needs(0)).toBe(true)
          expect(() => reservation.window(0)).not.toThrow()
          reservation.release()
        }
      },
      {},
      'unitl',
      'until',
    ],
  ]
  test.each(calls)('of %s refuses an option that it does not know', async (_, call, options, word, known) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const misspelt = await outcomeOf(() => call(manager, sequence, { ...options, [word]: 1 }))
      expect(misspelt).toMatchObject({ code: 'ERR_KV_INVALID_VALUE' })
      expect(misspelt).toMatchObject({ message: expect.stringContaining(`options.${word} is unknown`) })
      expect(misspelt).toMatchObject({ message: expect.stringContaining(`Did you mean '${known}'?`) })
      const farOff = await outcomeOf(() => call(manager, sequence, { ...options, colour: 1 }))
      expect(farOff).toMatchObject({ message: expect.stringMatching(new RegExp(`Known are .*\\b${known}\\b`)) })
      expect(farOff).toMatchObject({ message: expect.not.stringContaining('Did you mean') })
    })
  })

  const wrong: [string, Call, string][] = [
    ['host.load without a sequence', (manager) => manager.host.load({} as Sequence), 'sequence'],
    ['host.load with null', (manager) => manager.host.load(null as unknown as Sequence), 'sequence'],
    ['host.reserve with null', (manager) => manager.host.reserve(null as unknown as Sequence), 'sequence'],
    ['host.reserve without a sequence', (manager) => manager.host.reserve([1] as unknown as Sequence), 'sequence'],
    ['flush with null', (manager) => manager.flush(null as never), 'options'],
    ['flush with a sync that is a number', (manager) => manager.flush({ sync: 1 as never }), 'sync'],
    ['close with null', (manager) => manager.close(null as never), 'options'],
    ['close with a flush that is text', (manager) => manager.close({ flush: 'no' as never }), 'flush'],
    ['sequence with null', (manager) => manager.sequence([1], null as never), 'options'],
    [
      'sequence with extra keys that are text',
      (manager) => manager.sequence([1], { tenant: 'a', extraKeys: 'lora' as never }),
      'extraKeys',
    ],
    ['on without a listener', (manager) => manager.on('stored', null as never), 'listener'],
    ['off without a listener', (manager) => manager.off('stored', undefined as never), 'listener'],
  ]
  test.each(wrong)('of %s is refused with ERR_KV_INVALID_TYPE', async (_, call, name) => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const error = await outcomeOf(() => call(manager, sequence, {}))
      expect(error).toMatchObject({ code: 'ERR_KV_INVALID_TYPE', message: expect.stringContaining(name) })
      expect(manager.sequence([1], { tenant: 'a' }).tokenCount).toBe(1)
    })
  })

  test('that returns a promise rejects it for a wrong option, and throws nothing', async () => {
    await withManager({}, async (manager) => {
      const sequence = manager.sequence(tokens(1, 8), { tenant: 'a' })
      const promises = [
        manager.close({ deadlineMs: Number.NaN }),
        manager.close({ deadlineMs: -1 }),
        manager.close({ deadlineMS: 1 } as never),
        manager.flush({ sink: true } as never),
        manager.host.load(sequence, { deadlineMs: Number.NaN }),
        manager.host.reserve(sequence, { firstBlock: Number.NaN }),
      ]
      for (const promise of promises) await expect(promise).rejects.toMatchObject({ code: 'ERR_KV_INVALID_VALUE' })
      expect(await manager.flush()).toBe(0)
    })
  })

  async function outcomeOf(run: () => unknown): Promise<unknown> {
    try {
      return await run()
    } catch (error) {
      return error
    }
  }
})

describe('a quota', () => {
  test('holds for a layout that was given as a plain object with its defaults left out', async () => {
    const layout = { ...TEST_LAYOUT, groups: [{ name: 'full', kind: 'full', layers: 2, bytesPerToken: 1024 }] }
    const changes = { layout: layout as unknown as ModelLayout, quotas: { a: { hostBytes: 3 * TEST_STRIDE } } }
    await withManager(changes, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      expect(manager.stats().tiers.host.held).toBe(3)
    })
  })

  test.each([Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY])('of %d bytes is refused', async (bytes) => {
    for (const tier of ['hostBytes', 'diskBytes']) {
      expect(await openCode(testOptions(null, { quotas: { a: { [tier]: bytes } } }))).toBe('ERR_KV_INVALID_VALUE')
    }
  })

  test('is set before the blocks of a disk tier are taken over, which then need not be looked through', async () => {
    await withDirectory(async (directory) => {
      const first = await BlockManager.open(testOptions(directory))
      await store(first, first.sequence(tokens(1, 32), { tenant: 'a' }), { until: 'disk' })
      await first.close()
      const looks = vi.spyOn(TierBlocks.prototype, 'isRanked')
      const placed = vi.spyOn(LeafQueue.prototype, 'openPartition')
      const quotas = { a: { diskBytes: 4 * TEST_STRIDE, hostBytes: 2 * TEST_STRIDE } }
      const manager = await BlockManager.open(testOptions(directory, { quotas }))
      expect([looks.mock.calls.length > 16, placed.mock.calls.length]).toEqual([false, 2])
      vi.restoreAllMocks()
      manager.checkAccounting()
      // Over its quota a tenant makes room among its own blocks.
      await store(manager, manager.sequence(tokens(2, 16), { tenant: 'b' }), { until: 'disk' })
      await store(manager, manager.sequence(tokens(3, 4), { tenant: 'a' }), { until: 'disk' })
      expect(manager.sequence(tokens(2, 16), { tenant: 'b' }).match().tokens).toBe(16)
      await manager.close()
    })
  })
})

describe('closing', () => {
  test('refuses every later call with ERR_KV_CLOSED, and may be repeated', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await Promise.all([manager.close(), manager.close()])
      expect(codeOf(() => manager.sequence([1], { tenant: 'a' }))).toBe('ERR_KV_CLOSED')
      expect(codeOf(() => sequence.match())).toBe('ERR_KV_CLOSED')
      expect(codeOf(() => sequence.onboard({ after: fence.quiet() }))).toBe('ERR_KV_CLOSED')
      expect(codeOf(() => manager.device.reserve(1))).toBe('ERR_KV_CLOSED')
      await expect(manager.flush()).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await expect(manager.host.reserve(sequence)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await expect(manager.host.load(sequence)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await manager.close()
    })
  })

  test('writes what only host memory held, so that the next manager finds it', async () => {
    await withDirectory(async (directory) => {
      const { PatternEngine } = await import('../lib/cli/pattern-engine.ts')
      const manager = await BlockManager.open(testOptions(directory))
      await new PatternEngine(manager).serve(manager.sequence(tokens(1, 32), { tenant: 'a' }))
      expect(manager.stats().tiers.disk.held).toBe(0)
      await manager.close()
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(8)
      const tally = await new PatternEngine(next).serve(next.sequence(tokens(1, 32), { tenant: 'a' }))
      expect(tally).toMatchObject({ tokensFromDisk: 32, verifiedBlocks: 8, wrongBlocks: 0 })
      await next.close()
    })
  })

  test('waits for transfers in flight', async () => {
    await withDirectory(async (directory) => {
      const { PatternEngine } = await import('../lib/cli/pattern-engine.ts')
      const manager = await BlockManager.open(testOptions(directory))
      const engine = new PatternEngine(manager)
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await sequence.prepare()
      const slots = manager.device.reserve(8)
      await engine.compute(slots.slots(), sequence.hashes.bytes.slice())
      const storing = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
      await manager.close()
      expect((await storing.done).arrived).toBe(8)
    })
  })
})

test('an unwritable directory is refused with ERR_KV_NOT_WRITABLE', async ({ skip }) => {
  if (process.getuid?.() === 0) skip('the superuser may write everywhere')
  await withDirectory(async (directory) => {
    const closed = join(directory, 'closed')
    mkdirSync(closed, { mode: 0o500 })
    expect(await openCode(testOptions(closed))).toBe('ERR_KV_NOT_WRITABLE')
  })
})
