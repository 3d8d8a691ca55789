import { chmodSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BlockManager } from '../lib/block-manager.ts'
import { KvError } from '../lib/errors.ts'
import { defineLayout } from '../lib/identity/model-layout.ts'
import { SHARED } from '../lib/identity/salt.ts'
import { fence } from '../lib/movement/fence.ts'
import type { ManagerOptions } from '../lib/options.ts'
import { TEST_LAYOUT, TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from './support/manager.ts'

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
        await store(directory)
        const [fingerprint] = readdirSync(join(directory, 'v1')).filter((each) => /^[0-9a-f]{32}$/.test(each))
        const file = join(directory, 'v1', fingerprint ?? '', name)
        truncateSync(file, 100)
        expect(await heldTokens(directory)).toBeLessThanOrEqual(16)
        await store(directory)
        writeFileSync(file, Buffer.alloc(200_000, 0x5a))
        expect(await heldTokens(directory)).toBeLessThanOrEqual(16)
        await store(directory)
        expect(await heldTokens(directory)).toBe(16)
      })
    },
  )

  async function store(directory: string): Promise<void> {
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
      const store = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
      await manager.close()
      expect((await store.done).arrived).toBe(8)
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
