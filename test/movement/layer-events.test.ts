/** When an onboard's events are handed out, against a binding that is played. */
import { describe, expect, test } from 'vitest'
import type { GroupTiers, MovementContext } from '../../lib/movement/context.ts'
import { ReadyOffer } from '../../lib/movement/layer-events.ts'
import type { ReadyHandle, StorageHandle } from '../../lib/native/binding.ts'
import { errorOf } from '../support/expect-code.ts'
import { isSettled } from '../support/io.ts'

const STORAGE = {} as StorageHandle
const SLOTS = [Uint32Array.of(4, 5), Uint32Array.of(0xffffffff, 6)]

/** A model of two layer groups, with 2 and 3 layers, whose batches' events are numbered: 100 × batch + place. */
function play(gpus = 1) {
  let batches = 0
  const of = new Map<object, number>()
  const layers = [2, 3]
  const groups = layers.map((count, index) => ({ index, group: { name: `g${index}` }, shape: { layers: count } }))
  let broken: 'makeReady' | 'readyEvents' | null = null
  const context = {
    groups,
    tokensPerBlock: 4,
    binding: {
      makeReady() {
        if (broken === 'makeReady') throw new Error('no events')
        const handle = {}
        of.set(handle, ++batches)
        return handle
      },
      readyEvents(handle: object) {
        if (broken === 'readyEvents') throw new Error('no addresses')
        const count = gpus * (of.get(handle) === 3 ? 3 : 2)
        return BigUint64Array.from({ length: count }, (_, i) => BigInt((of.get(handle) ?? 0) * 100 + i))
      },
    },
  } as unknown as MovementContext
  const offer = new ReadyOffer(context)
  const begin = (group: number): ReadyHandle | null => offer.begin(groups[group] as unknown as GroupTiers, STORAGE)
  const breakCalls = (what: typeof broken): void => {
    broken = what
  }
  return { offer, begin, breakCalls }
}

describe('events a layer', () => {
  test('are handed out when every batch is queued and none is to be begun, not before', async () => {
    const { offer, begin } = play()
    for (const group of [0, 0, 1]) begin(group)
    offer.queued()
    offer.queued()
    offer.queued()
    expect(await isSettled(offer.promise)).toBe(false)
    offer.seal(() => SLOTS)
    const events = await offer.promise
    expect(events).toMatchObject({ tokens: 8, blockCount: 2 })
    expect(events?.events(0, 'g0')).toEqual([100n, 200n])
    expect(events?.events(1, 'g0')).toEqual([101n, 201n])
    expect(events?.events(2, 'g1')).toEqual([302n])
    expect(events?.slots('g1')).toEqual(SLOTS[1])
  })

  test('wait for the batch that is queued last', async () => {
    const { offer, begin } = play()
    for (const group of [0, 1]) begin(group)
    let taken = 0
    offer.seal(() => {
      taken++
      return SLOTS
    })
    offer.queued()
    expect([taken, await isSettled(offer.promise)]).toEqual([0, false])
    offer.queued()
    // In the report itself: `done` may be the next thing that is reported.
    expect(taken).toBe(1)
    expect(await offer.promise).not.toBeNull()
    offer.refuse()
    expect(await offer.promise).not.toBeNull()
  })

  test('of several GPUs are those of each', async () => {
    const { offer, begin } = play(2)
    begin(0)
    offer.seal(() => SLOTS)
    offer.queued()
    expect((await offer.promise)?.events(1, 'g0')).toEqual([101n, 103n])
  })

  test('are none where all blocks are there already', async () => {
    const { offer } = play()
    offer.seal(() => SLOTS)
    const events = await offer.promise
    expect([events?.tokens, events?.events(0, 'g0')]).toEqual([8, []])
  })

  test('are named by a layer and a group that there are', async () => {
    const { offer } = play()
    offer.seal(() => SLOTS)
    const events = await offer.promise
    errorOf('ERR_KV_INVALID_VALUE', () => events?.events(2, 'g0'))
    errorOf('ERR_KV_INVALID_VALUE', () => events?.events(-1, 'g0'))
    errorOf('ERR_KV_INVALID_TYPE', () => events?.events('0' as unknown as number, 'g0'))
    errorOf('ERR_KV_INVALID_VALUE', () => events?.events(0))
    errorOf('ERR_KV_INVALID_VALUE', () => events?.slots('g2'))
    events?.slots('g0').fill(0)
    expect(events?.slots('g0')).toEqual(SLOTS[0])
  })
})

describe('no events', () => {
  test('are handed out where the slots are not the caller’s', async () => {
    const { offer, begin } = play()
    begin(0)
    offer.queued()
    offer.seal(() => null)
    expect(await offer.promise).toBeNull()
  })

  test.each(['before', 'after'])('are handed out when a batch fails %s the others are queued', async (when) => {
    const { offer, begin } = play()
    let taken = 0
    for (const group of [0, 1]) begin(group)
    if (when === 'before') offer.refuse()
    offer.queued()
    offer.seal(() => {
      taken++
      return SLOTS
    })
    if (when === 'after') offer.refuse()
    offer.queued()
    expect([await offer.promise, taken]).toEqual([null, 0])
  })

  test('are handed out where they cannot be made, and the batch goes on without', async () => {
    const played = play()
    played.begin(0)
    played.breakCalls('makeReady')
    expect(played.begin(1)).toBeNull()
    played.offer.queued()
    played.offer.seal(() => SLOTS)
    expect(await played.offer.promise).toBeNull()
  })

  test('are handed out, nor are slots, where their addresses cannot be had', async () => {
    const played = play()
    let taken = 0
    played.begin(0)
    played.offer.seal(() => {
      taken++
      return SLOTS
    })
    played.breakCalls('readyEvents')
    played.offer.queued()
    expect([await played.offer.promise, taken]).toEqual([null, 0])
  })
})
