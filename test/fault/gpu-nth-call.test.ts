/**
 * Fails exactly the n-th call of the CUDA driver in a whole life of a manager, for every n and several errors (CUDA's: 1 an
 * invalid value, 2 out of memory, 999 unknown, 700 an illegal address, which the context does not survive).
 */
import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { CudaMemory } from '../support/cuda-memory.ts'
import { ownedDevice } from '../support/device-kind.ts'
import {
  ALL,
  BLOCKS,
  expectWorks,
  failEach,
  LONG,
  live,
  MEMORY,
  mayFail,
  optionsFor,
  type Plan,
  STEP,
  UNUSED,
} from '../support/gpu-lives.ts'
import { testing } from '../support/io.ts'
import { TEST_LAYOUT, withDirectory } from '../support/manager.ts'

const call =
  (code: number): Plan =>
  (n) =>
    testing.simFailCall(null, n, code, 1)

describe('no single driver call that fails does more than cost hits', { timeout: 300_000 }, () => {
  test.each([1, 2, 999, 700])(
    'while a manager is opened on a GPU that nobody uses, and closed (error %d)',
    async (code) => {
      const failed = await failEach(call(code), STEP, ALL, async () => {
        await withDirectory(async (directory) => {
          const manager = await mayFail(() => BlockManager.open(optionsFor(UNUSED, directory)))
          await manager?.close()
        })
      })
      expect(failed).toBeGreaterThan(20 / STEP)
      await expectWorks(UNUSED)
    },
  )

  test.each([2, 999])('in a life on owned memory (error %d)', async (code) => {
    const run = () => withDirectory((directory) => live(ownedDevice(3 * BLOCKS), null, directory))
    expect(await failEach(call(code), STEP, MEMORY, run)).toBeGreaterThan(100 / STEP)
    await expectWorks(ownedDevice(3 * BLOCKS))
  })

  test.each([1, 999])('in a life on lent memory (error %d)', async (code) => {
    const memory = new CudaMemory(TEST_LAYOUT, 'layersKvInner', 2 * BLOCKS)
    const run = () => withDirectory((directory) => live(memory.device, memory, directory))
    expect(await failEach(call(code), STEP, MEMORY, run)).toBeGreaterThan(50 / STEP)
    memory.free()
    await expectWorks(ownedDevice(3 * BLOCKS))
  })

  test('in a life on a GPU that is lost by it, and made ready for the next manager', async () => {
    const run = () => withDirectory((directory) => live(UNUSED, null, directory))
    expect(await failEach(call(700), LONG ? 1 : 7 * STEP, ALL, run)).toBeGreaterThan(20 / STEP)
    await expectWorks(UNUSED)
  })
})
