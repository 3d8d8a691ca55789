import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { THREADS } from '../support/disk.ts'
import { isSettled, testing, turn, untilHeld, withFaults, withHeldIo } from '../support/io.ts'
import { diskStrideOf, HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { load, store } from '../support/slots.ts'

describe('flush', () => {
  test('writes what is only in host memory, once, and says how much', async () => {
    await withManager({}, async (manager) => {
      for (const seed of [1, 2]) await store(manager, manager.sequence(tokens(seed, 16), { tenant: 'a' }))
      await store(manager, manager.sequence(tokens(3, 16), { tenant: 'a' }), { until: 'disk' })
      expect(await manager.flush()).toBe(8)
      expect(await manager.flush()).toBe(0)
      expect(await manager.flush({ sync: true })).toBe(0)
      expect(manager.stats().tiers.disk.held).toBe(12)
      expectQuiet(manager)
    })
  })

  test('without a disk tier does nothing', async () => {
    const manager = await BlockManager.open(testOptions(null))
    await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
    expect(await manager.flush({ sync: true })).toBe(0)
    await manager.close()
  })

  test('takes the blocks of every layer group', async () => {
    await withDirectory(async (directory) => {
      const options = testOptions(null, {
        layout: HYBRID,
        host: { capacityBytes: 16 * strideOf(HYBRID) },
        disk: { directory, capacityBytes: 16 * diskStrideOf(HYBRID) },
      })
      const manager = await BlockManager.open(options)
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      expect(await manager.flush({ sync: true })).toBe(manager.stats().tiers.host.held)
      await manager.close({ flush: false })
      const next = await BlockManager.open(options)
      expect(await load(next, next.sequence(tokens(1, 18), { tenant: 'a' }))).toMatchObject({ tokens: 16, wrong: 0 })
      await next.close()
    })
  })

  test('twice at the same time writes each block once', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      await Promise.all([manager.flush(), manager.flush(), manager.flush({ sync: true })])
      expect(manager.stats().counters.diskWrites).toBe(8)
      expectQuiet(manager)
    })
  })

  test('that cannot write leaves the blocks in host memory; another one writes them', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 32), { tenant: 'a' }))
      expect(await withFaults({ seed: 1, writeError: 1 }, () => manager.flush())).toBe(0)
      expect(manager.stats().tiers).toMatchObject({ host: { held: 8 }, disk: { held: 0, filling: 0 } })
      expectQuiet(manager)
      expect(await manager.flush()).toBe(8)
    })
  })

  test('with sync fails with ERR_KV_IO where the disk cannot promise, and from then on', async () => {
    await withManager({}, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      await manager.flush()
      await withFaults({ seed: 1, writeError: 1 }, async () => {
        await expect(manager.flush({ sync: true })).rejects.toMatchObject({ code: 'ERR_KV_IO' })
        expect(testing.faultsInjected()).toBeGreaterThan(0)
      })
      // What the system could not write may be gone, and asking again would not tell.
      await expect(manager.flush({ sync: true })).rejects.toMatchObject({ code: 'ERR_KV_IO' })
      expect(await manager.flush()).toBe(0)
      expectQuiet(manager)
    })
  })
})

describe('a flush to a disk that does not answer', () => {
  const threads = { engine: { threads: THREADS } }

  async function withStored(run: (manager: BlockManager, sequence: Sequence) => Promise<void>): Promise<void> {
    await withManager(threads, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await store(manager, sequence)
      await run(manager, sequence)
      expectQuiet(manager)
      expect(await load(manager, sequence)).toMatchObject({ tokens: 16, wrong: 0 })
    })
  }

  test('ends at its deadline; the blocks stay in host memory, and another one writes them', async () => {
    await withStored(async (manager) => {
      await withHeldIo(async () => {
        expect(await manager.flush({ deadlineMs: 20 })).toBe(0)
        await expect(manager.flush({ deadlineMs: 20, sync: true })).rejects.toMatchObject({ code: 'ERR_KV_DEADLINE' })
        testing.releaseIo()
      })
      while (manager.stats().tiers.disk.filling > 0) await turn()
      expect(manager.stats().tiers).toMatchObject({ host: { held: 4 }, disk: { held: 0 } })
      expect(manager.stats().counters).toMatchObject({ abandoned: 4, transferFailures: 0 })
      expect(await manager.flush()).toBe(4)
    })
  })

  test('ends with its signal', async () => {
    await withStored(async (manager) => {
      const controller = new AbortController()
      await withHeldIo(async () => {
        const flushing = manager.flush({ signal: controller.signal, deadlineMs: 0 })
        await untilHeld()
        expect(await isSettled(flushing)).toBe(false)
        controller.abort()
        expect(await flushing).toBe(0)
        testing.releaseIo()
      })
      while (manager.stats().tiers.disk.filling > 0) await turn()
    })
  })

  test('ends with the manager', async () => {
    await withManager(threads, async (manager) => {
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      await withHeldIo(async () => {
        const flushing = manager.flush({ deadlineMs: 0 })
        await untilHeld()
        const closing = manager.close({ deadlineMs: 1, flush: false })
        expect(await flushing).toBe(0)
        testing.releaseIo()
        await closing
      })
      manager.checkAccounting()
    })
  })

  test.each([
    [{ deadlineMs: -1 }, 'ERR_KV_INVALID_VALUE'],
    [{ signal: 1 }, 'ERR_KV_INVALID_TYPE'],
    [{ sync: 1 }, 'ERR_KV_INVALID_TYPE'],
  ])('is refused with options %j', async (options, code) => {
    await withManager({}, async (manager) => {
      await expect(manager.flush(options as never)).rejects.toMatchObject({ code })
    })
  })
})

describe('close', () => {
  test('ends writes that outlast its deadline, whoever asked for them', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory, { engine: { threads: THREADS } }))
      const sequence = manager.sequence(tokens(1, 32), { tenant: 'a' })
      await withHeldIo(async () => {
        const storing = store(manager, sequence, { until: 'disk', deadlineMs: 0 })
        await untilHeld()
        const closing = manager.close({ deadlineMs: 1, flush: false })
        while (manager.stats().counters.abandoned < 8) await turn()
        testing.releaseIo()
        expect((await storing).arrived).toBe(0)
        await closing
      })
      expect(manager.stats().counters.transferFailures).toBe(0)
      manager.checkAccounting()
    })
  })

  test('with a flush that the disk does not answer gives up after its deadline', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory, { engine: { threads: THREADS } }))
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      await withHeldIo(async () => {
        const closing = manager.close({ deadlineMs: 20 })
        while (manager.stats().counters.abandoned < 4) await turn()
        testing.releaseIo()
        await closing
      })
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBeLessThanOrEqual(4)
      await next.close()
    })
  })

  test.each([
    [undefined, undefined, 4],
    [false, undefined, 0],
    [undefined, false, 0],
    [false, true, 4],
    [true, false, 0],
  ])('with flushOnClose %s and flush %s writes %d blocks', async (flushOnClose, flush, written) => {
    await withDirectory(async (directory) => {
      const changes = flushOnClose === undefined ? {} : { flushOnClose }
      const manager = await BlockManager.open(testOptions(directory, changes))
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      await manager.close(flush === undefined ? {} : { flush })
      expect(manager.stats().counters).toMatchObject({ diskWrites: written, diskWriteBytes: written * TEST_STRIDE })
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(written)
      await next.close()
    })
  })

  test('that cannot write resolves all the same, and gives the directory back', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
      await withFaults({ seed: 1, writeError: 1 }, () => manager.close())
      const next = await BlockManager.open(testOptions(directory))
      expect(next.stats().counters.recovered).toBe(0)
      await next.close()
    })
  })
})
