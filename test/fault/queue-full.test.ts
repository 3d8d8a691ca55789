/** A queue that holds 8 blocks. In a file of its own: the engine's queue is the widest that any manager asked for. */
import { describe, expect, test } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { fence } from '../../lib/movement/fence.ts'
import { THREADS, withDisk } from '../support/disk.ts'
import { testing, untilHeld, withHeldIo } from '../support/io.ts'
import { tokens, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { compute, emptyDevice, load, store } from '../support/slots.ts'

const engine = { engine: { threads: THREADS, queueBlocks: 8 } }
const FULL = (count: number) => Array<string>(count).fill('ERR_KV_QUEUE_FULL')

/** Runs while the queue is full of a load of prompt 1, which the disk does not answer. */
async function withFullQueue(manager: BlockManager, run: () => Promise<void>): Promise<void> {
  await withHeldIo(async () => {
    const loading = manager.sequence(tokens(1, 32), { tenant: 'a' }).onboard({ after: fence.quiet() })
    await untilHeld()
    await run()
    testing.releaseIo()
    const result = await loading.done
    expect(codesOf(result)).toEqual(Array(8).fill('OK'))
    result.pin?.release()
    await loading.settled
  })
}

describe('when the queue is full', () => {
  test('an onboard is a miss with ERR_KV_QUEUE_FULL, and works later', async () => {
    await withDisk(
      [1, 2],
      32,
      async (manager) => {
        const sequence = manager.sequence(tokens(2, 32), { tenant: 'a' })
        await withFullQueue(manager, async () => {
          const found = await load(manager, sequence)
          expect(codesOf(found.result)).toEqual(FULL(8))
          expect(found).toMatchObject({ tokens: 0, checked: 0 })
          expect(found.result.message).toContain('queue')
        })
        expect(await load(manager, sequence)).toMatchObject({ tokens: 32, wrong: 0 })
        expectQuiet(manager)
      },
      engine,
    )
  })

  test('an offload is a miss with ERR_KV_QUEUE_FULL, and works later', async () => {
    await withDisk(
      [1],
      32,
      async (manager) => {
        const sequence = manager.sequence(tokens(2, 32), { tenant: 'a' })
        const slots = manager.device.reserve(8)
        await compute(manager, sequence, slots, 0)
        await withFullQueue(manager, async () => {
          const storing = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
          const result = await storing.done
          expect(codesOf(result)).toEqual(FULL(8))
          await storing.settled
          expect(sequence.match().tokens).toBe(0)
        })
        const storing = sequence.offload({ from: slots, after: fence.quiet(), until: 'disk' })
        expect(tiersOf(await storing.done)).toEqual(Array(8).fill('disk'))
        await storing.settled
        slots.release()
        expectQuiet(manager)
      },
      engine,
    )
  })

  test('a publish is a miss with ERR_KV_QUEUE_FULL, and its slots are free again', async () => {
    await withDisk(
      [1],
      32,
      async (manager) => {
        const sequence = manager.sequence(tokens(2, 16), { tenant: 'a' })
        await withFullQueue(manager, async () => {
          const reservation = await manager.host.reserve(sequence)
          const result = await reservation.publish()
          expect(codesOf(result)).toEqual(FULL(4))
          expect(sequence.match().tokens).toBe(0)
        })
        const reservation = await manager.host.reserve(sequence)
        expect(codesOf(await reservation.publish())).toEqual(Array(4).fill('OK'))
        expectQuiet(manager)
      },
      engine,
    )
  })

  test('a write to disk is put off: the blocks stay in host memory, and the next flush writes them', async () => {
    await withDisk(
      [1],
      16,
      async (manager) => {
        const sequence = manager.sequence(tokens(2, 32), { tenant: 'a' })
        await store(manager, sequence)
        const small = manager.sequence(tokens(1, 16), { tenant: 'a' })
        await withHeldIo(async () => {
          const loading = small.onboard({ after: fence.quiet() })
          await untilHeld()
          expect(await manager.flush()).toBe(0)
          testing.releaseIo()
          const result = await loading.done
          expect(result.tokens).toBe(16)
          result.pin?.release()
          await loading.settled
        })
        expectQuiet(manager)
        expect(await manager.flush()).toBe(8)
        expectQuiet(manager)
      },
      engine,
    )
  })
})

test('a batch that the queue can never hold is a miss, not an error, and smaller ones work', async () => {
  await withManager(engine, async (manager) => {
    const sequence = manager.sequence(tokens(1, 36), { tenant: 'a' })
    expect(codesOf(await store(manager, sequence))).toEqual(FULL(9))
    expectQuiet(manager)
    expect(codesOf(await store(manager, sequence, { blocks: 8 }))).toEqual(Array(8).fill('OK'))
    expect(codesOf(await store(manager, sequence, { firstBlock: 8 }))).toEqual(['OK'])
    emptyDevice(manager)
    const whole = await load(manager, sequence)
    expect(codesOf(whole.result)).toEqual(FULL(9))
    expect(await load(manager, sequence, { maxBlocks: 8 })).toMatchObject({ tokens: 32, wrong: 0 })
    expectQuiet(manager)
  })
})
