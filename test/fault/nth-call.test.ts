/**
 * Fails exactly the n-th I/O call of a whole life of a manager, for every n: opening, storing until disk, loading back,
 * flushing, closing and opening again. Whatever fails, nothing hangs, no byte is wrong, nothing stays locked or in use.
 */
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { isKvError } from '../../lib/errors.ts'
import type { ModelLayout } from '../../lib/identity/model-layout.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { testing, withFaults } from '../support/io.ts'
import { diskStrideOf, HYBRID, strideOf } from '../support/layouts.ts'
import { TEST_LAYOUT, testOptions, tokens, withDirectory } from '../support/manager.ts'
import { expectQuiet } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

function optionsFor(layout: ModelLayout, directory: string): ManagerOptions {
  return testOptions(null, {
    layout,
    host: { capacityBytes: 6 * strideOf(layout) },
    disk: { directory, capacityBytes: 20 * diskStrideOf(layout) },
    engine: { threads: 2 },
  })
}

/** A manager's life; each step may fail in the ways it promises, and in no other. */
async function live(options: ManagerOptions): Promise<void> {
  let manager: BlockManager
  try {
    manager = await BlockManager.open(options)
  } catch (error) {
    expect(isKvError(error) && error.code).toMatch(/^ERR_KV_(IO|NO_SPACE|NOT_WRITABLE|NOT_A_STORE)$/)
    return
  }
  try {
    for (const [seed, until] of [
      [1, 'disk'],
      [2, 'host'],
      [3, 'disk'],
      [4, 'host'],
    ] as const) {
      const sequence = manager.sequence(tokens(seed, 17), { tenant: 'a' })
      const result = await store(manager, sequence, { until })
      expect(result.blockCount).toBe(4)
      expect(sequence.match().tokens).toBe(result.tokens)
      expectQuiet(manager)
    }
    for (const seed of [1, 2, 3, 4]) {
      emptyDevice(manager)
      expect((await load(manager, manager.sequence(tokens(seed, 17), { tenant: 'a' }))).wrong).toBe(0)
      expectQuiet(manager)
    }
    try {
      await manager.flush({ sync: true })
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_KV_IO' })
    }
    expectQuiet(manager)
  } finally {
    await manager.close()
  }
}

test.each([
  ['one layer group', TEST_LAYOUT],
  ['three layer groups', HYBRID],
])('no single failing call does more than cost hits, with %s', { timeout: 300_000 }, async (_, layout) => {
  let calls = 0
  await withDirectory(async (directory) => {
    testing.setFaults({ seed: 0 })
    await live(optionsFor(layout, directory))
    calls = testing.ioCalls()
  })
  expect(calls).toBeGreaterThan(10)
  let reached = 0
  // Beyond the calls of a life without faults, for a failure makes others necessary.
  for (let n = 1; n <= calls + 4; n++) {
    await withDirectory(async (directory) => {
      const options = optionsFor(layout, directory)
      await withFaults({ seed: n, failCall: n }, async () => {
        await live(options)
        reached += testing.faultsInjected()
      })
      // The directory is not locked, and what is there is right.
      const next = await BlockManager.open(options)
      for (const seed of [1, 2, 3, 4]) {
        emptyDevice(next)
        expect((await load(next, next.sequence(tokens(seed, 17), { tenant: 'a' }))).wrong, `call ${n}`).toBe(0)
      }
      const again = next.sequence(tokens(5, 17), { tenant: 'a' })
      await store(next, again, { until: 'disk' })
      emptyDevice(next)
      expect(await load(next, again)).toMatchObject({ tokens: 16, wrong: 0 })
      expectQuiet(next)
      await next.close()
    })
  }
  expect(reached).toBeGreaterThanOrEqual(calls)
})

test('a store that could not be opened for want of space leaves its directory free, whatever group was refused', async () => {
  await withDirectory(async (directory) => {
    const options = optionsFor(HYBRID, directory)
    testing.setFaults({ seed: 0 })
    await (await BlockManager.open(options)).close()
    const calls = testing.ioCalls()
    for (let n = 1; n <= calls; n++) {
      await withFaults({ seed: n, failCall: n }, async () => {
        const opened = await BlockManager.open(options).catch((error: unknown) => error)
        if (opened instanceof BlockManager) await opened.close()
        else expect(isKvError(opened)).toBe(true)
      })
      const manager = await BlockManager.open(options)
      await manager.close()
    }
  })
})
