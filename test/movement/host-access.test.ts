import { describe, expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { BLOCKS_PER_TURN } from '../../lib/movement/context.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import { withDisk } from '../support/disk.ts'
import { errorOf } from '../support/expect-code.ts'
import { fillAll, publish, readBack, threads } from '../support/host-slots.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory, withManager } from '../support/manager.ts'
import { codesOf, expectQuiet, tiersOf } from '../support/outcomes.ts'
import { emptyDevice, load, store } from '../support/slots.ts'

describe('closing the manager', () => {
  test('detaches every window, and ends reservations and readings', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      await publish(manager, sequence, 1)
      const reading = await manager.host.load(sequence)
      const reservation = await manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
      const windows = [reading.window(0), reservation.window(0)]
      await manager.close()
      for (const window of windows) expect(window.byteLength).toBe(0)
      errorOf('ERR_KV_RELEASED', () => reading.window(0))
      errorOf('ERR_KV_RELEASED', () => reservation.window(0))
      await expect(reservation.publish()).rejects.toMatchObject({ code: 'ERR_KV_RELEASED' })
    })
  })

  test('does not wait for a reservation or a reading that was still on its way', async () => {
    await withDisk([1], 16, async (manager) => {
      const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
      const reserving = manager.host.reserve(manager.sequence(tokens(2, 16), { tenant: 'a' }))
      const loading = manager.host.load(sequence)
      const closing = manager.close()
      await expect(reserving).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await expect(loading).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
      await closing
      manager.checkAccounting()
    })
  })

  test.each([true, false])(
    'waits for a publish that is under way (flush %s): what was to survive does',
    async (flush) => {
      await withDirectory(async (directory) => {
        const manager = await BlockManager.open(testOptions(directory, threads))
        const reservation = await manager.host.reserve(manager.sequence(tokens(1, 64), { tenant: 'a' }))
        fillAll(reservation, 1)
        const publishing = reservation.publish({ until: 'disk' })
        await manager.close({ flush })
        const result = await publishing
        expect(tiersOf(result)).toEqual(Array(16).fill('disk'))
        const next = await BlockManager.open(testOptions(directory))
        expect(await readBack(next, next.sequence(tokens(1, 64), { tenant: 'a' }), 1)).toBe(64)
        await next.close()
      })
    },
  )

  test('ends a publish that is under way with an outcome for every block', async () => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(testOptions(directory))
      const reservation = await manager.host.reserve(manager.sequence(tokens(1, 16), { tenant: 'a' }))
      fillAll(reservation, 1)
      const publishing = reservation.publish({ until: 'disk' })
      await manager.close()
      for (const code of codesOf(await publishing))
        expect(['OK', 'ERR_KV_CLOSED', 'ERR_KV_PARENT_LOST']).toContain(code)
      manager.checkAccounting()
    })
  })
})

test('blocks that an engine published can be onboarded, and those it offloaded can be read', async () => {
  await withManager({}, async (manager) => {
    const one = manager.sequence(tokens(1, 16), { tenant: 'a' })
    await store(manager, one)
    const reading = await manager.host.load(one)
    const bytes = Array.from({ length: 4 }, (_, i) => Buffer.from(reading.window(i)))
    reading.release()
    // The same bytes under another identity are not the pattern of that identity: onboarding moves what was published.
    const two = manager.sequence(tokens(2, 16), { tenant: 'a' })
    const reservation = await manager.host.reserve(two)
    for (const [i, each] of bytes.entries()) reservation.window(i).set(each)
    await reservation.publish()
    expect(await load(manager, two)).toMatchObject({ tokens: 16, checked: 4, wrong: 4 })
    emptyDevice(manager)
    expect(await load(manager, one)).toMatchObject({ tokens: 16, checked: 4, wrong: 0 })
    expectQuiet(manager)
  })
})

/** Blocks of which two whole parts and a short one are written to disk. */
const LONG = 2 * BLOCKS_PER_TURN + 7

/** A manager whose host memory and disk have room for a long sequence, which is in host memory. */
async function withLong(run: (manager: BlockManager, sequence: Sequence) => Promise<void>): Promise<void> {
  await withDirectory(async (directory) => {
    const disk = { directory, capacityBytes: LONG * (TEST_STRIDE + 128) }
    const manager = await BlockManager.open(
      testOptions(directory, { host: { capacityBytes: LONG * TEST_STRIDE }, disk }),
    )
    const sequence = manager.sequence(tokens(1, 4 * LONG), { tenant: 'a' })
    await publish(manager, sequence, 1)
    await run(manager, sequence)
    expectQuiet(manager)
    await manager.close({ flush: false })
  })
}

describe('writing to disk what host memory holds', () => {
  test('of a long sequence goes part by part', async () => {
    await withLong(async (manager, sequence) => {
      const written: number[] = []
      manager.on('stored', ({ tier, blocks }) => {
        if (tier === 'disk') written.push(blocks)
      })
      expect(await manager.host.persist(sequence, 'any', {})).toEqual({ tokens: 4 * LONG, message: '' })
      expect(written).toEqual([BLOCKS_PER_TURN, BLOCKS_PER_TURN, 7])
    })
  })

  test('ends after the part that it was ended in, and says so', async () => {
    await withLong(async (manager, sequence) => {
      const end = new AbortController()
      manager.on('stored', ({ tier }) => {
        if (tier === 'disk') end.abort()
      })
      const { tokens: onDisk, message } = await manager.host.persist(sequence, 'any', { signal: end.signal })
      expect([onDisk, message]).toEqual([4 * BLOCKS_PER_TURN, 'ERR_KV_ABORTED before the blocks were on disk'])
      await manager.host.persist(sequence, 'any', {})
      // Of what is there already nothing was late.
      const again = await manager.host.persist(sequence, 'any', { signal: end.signal })
      expect(again).toEqual({ tokens: 4 * LONG, message: '' })
    })
  })
})
