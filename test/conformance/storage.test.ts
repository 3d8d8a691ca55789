/**
 * What every storage of the catalog must do with bytes: give back what was stored, keep slots apart, and say of each block
 * whether it came. What it refuses is in storage-arguments.test.ts, ends and failures in
 * storage-endings.test.ts, what is left after closing in storage-persistence.test.ts.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { LAYOUT_KINDS, STORAGE_KINDS, TRANSFER_PATHS } from '../../lib/native/generated.ts'
import { TIER_COUNT, type TierNumber, tierName } from '../../lib/tiers/types.ts'
import { ARRIVED, all, CHECKED, hashesOf, missed, numbers } from '../native-binding/harness.ts'
import { ON_GPU } from '../support/device-kind.ts'
import { testing } from '../support/io.ts'
import { Bench, split, transfer } from '../support/storages/bench.ts'
import { STORAGES } from '../support/storages/catalog.ts'
import { nameOf, usesDisk } from '../support/storages/kind.ts'
import { blockBytesOf } from '../support/storages/lent-memory.ts'
import { FORMS, FULL } from '../support/storages/shapes.ts'

/** Without repeats, in order. */
function sorted(names: readonly string[]): string[] {
  return [...new Set(names)].sort()
}

describe('the catalog of storages', () => {
  test('has every kind that the addon opens, for every tier, in every layout', () => {
    const kinds = STORAGE_KINDS.filter((kind) => (kind === 'device') === ON_GPU)
    expect(sorted(STORAGES.map(({ kind }) => kind))).toEqual(sorted(kinds))
    const tiers = ON_GPU ? ['device'] : numbers(TIER_COUNT).map((tier) => tierName(tier as TierNumber))
    expect(sorted(STORAGES.map(({ tier }) => tier))).toEqual(sorted(tiers))
    expect(sorted(STORAGES.flatMap(({ layout }) => layout ?? []))).toEqual(sorted(LAYOUT_KINDS))
  })

  if (ON_GPU) return

  test('names every path that bytes can take', () => {
    const paths = STORAGES.flatMap(({ into, outOf, check }) =>
      [...into, ...outOf].map(({ path }) => path).concat(check ?? []),
    )
    expect(sorted(paths)).toEqual(sorted(TRANSFER_PATHS))
  })
})

describe.each(STORAGES.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  const verifying = kind.outOf.filter(usesDisk)
  const lastOut = (verifying.length > 0 ? verifying : kind.outOf).slice(-1)

  describe.each(FORMS.map((form) => [form.name, form] as const))('of %s', (__, form) => {
    test('gives back every byte, whichever way it came', async () => {
      const bench = await Bench.open(kind, form)
      for (const [i, way] of kind.into.entries()) {
        const placed = bench.everySlot(200 * (i % 2))
        await bench.put(way, placed)
        await bench.expectHolds(placed, lastOut)
      }
    })

    test('gives back every byte, whichever way it goes', async () => {
      const bench = await Bench.open(kind, form)
      await bench.expectHolds(await bench.fill())
    })

    test('holds in each slot what was last put there, and nothing else', async () => {
      const bench = await Bench.open(kind, form)
      const batches = fc.array(
        fc.record({
          way: fc.constantFrom(...kind.into),
          slots: fc.uniqueArray(fc.nat(form.slotCount - 1), { minLength: 1 }),
          first: fc.nat(40),
        }),
        { minLength: 1, maxLength: 4 },
      )
      const property = fc.asyncProperty(batches, fc.constantFrom(...kind.outOf), async (sequence, out) => {
        const held = new Map((await bench.fill()).map(({ slot, block }) => [slot, block]))
        for (const { way, slots, first } of sequence) {
          const placed = slots.map((slot, i) => ({ slot, block: first + i }))
          await bench.put(way, placed)
          for (const { slot, block } of placed) held.set(slot, block)
        }
        await bench.expectHolds(
          [...held].map(([slot, block]) => ({ slot, block })),
          [out],
        )
      })
      await fc.assert(property, { numRuns: 6 })
    })
  })

  test('reports a batch of no blocks', async () => {
    const bench = await Bench.open(kind, FULL)
    for (const way of kind.into) await bench.put(way, [])
    await bench.expectHolds([])
  })

  test('lets one slot be read for several blocks of a batch', async () => {
    const bench = await Bench.open(kind, FULL)
    const [guard] = await bench.fill()
    await bench.expectHolds([guard!, guard!, guard!])
  })

  test('moves the blocks of many batches at once', async () => {
    const bench = await Bench.open(kind, FULL)
    await bench.fill()
    const placed = bench.everySlot(100)
    for (const way of kind.into) {
      const reports = await Promise.all(split(await bench.putRequest(way, placed)).map(transfer))
      expect(reports.flatMap(({ outcomes }) => outcomes)).toEqual(all(placed.length, ARRIVED))
      await bench.expectHolds(placed, lastOut)
      await bench.fill()
    }
    await bench.put(kind.into.at(-1)!, placed)
    for (const way of kind.outOf) {
      const request = await bench.takeRequest(way, placed)
      const reports = await Promise.all(split(request).map(transfer))
      const outcomes = reports.flatMap((report) => report.outcomes)
      const taken = await bench.collect(way, placed, request, { outcomes })
      bench.expectTaken(placed, taken, all(placed.length, ARRIVED), nameOf(way))
    }
  })

  test('has a way back that verifies, unless its blocks pass memory that has', () => {
    expect(verifying.length > 0).toBe(kind.kind !== 'device')
  })

  // Nothing is made for kinds that have no such way.
  if (!testing.verifies || verifying.length === 0) return

  describe('verifies what comes back:', () => {
    test.each(FORMS.map((form) => [form.name, form] as const))(
      'one changed bit of %s is a miss of its block, and of no other',
      async (__, form) => {
        const bench = await Bench.open(kind, form)
        const last = blockBytesOf(form.shape) - 1
        const edges = fc.constantFrom(0, last, Math.min(65_535, last), Math.min(65_536, last))
        const place = fc.record({ slot: fc.nat(form.slotCount - 1), byte: fc.oneof(edges, fc.nat(last)) })
        const property = fc.asyncProperty(place, fc.constantFrom(...verifying), async ({ slot, byte }, way) => {
          const placed = await bench.fill()
          await bench.flip(placed[slot]!, byte)
          const expected = all(form.slotCount, ARRIVED).with(slot, missed('ERR_KV_CHECKSUM'))
          bench.expectTaken(placed, await bench.take(way, placed), expected, nameOf(way))
          if (kind.check === null) return
          const checked = all(form.slotCount, CHECKED).with(slot, missed('ERR_KV_CHECKSUM'))
          expect(await bench.check(placed)).toEqual(checked)
        })
        await fc.assert(property, { numRuns: 8 })
      },
    )

    test('a block asked for under a hash with another seed is a miss, and of no other block', async () => {
      const bench = await Bench.open(kind, FULL)
      const bit = fc.record({ slot: fc.nat(FULL.slotCount - 1), bit: fc.nat(63) })
      const property = fc.asyncProperty(bit, fc.constantFrom(...verifying), async ({ slot, bit: at }, way) => {
        const placed = await bench.fill()
        const request = await bench.takeRequest(way, placed)
        request.hashes[slot * 32 + (at >> 3)]! ^= 1 << (at & 7)
        const expected = all(FULL.slotCount, ARRIVED).with(slot, missed('ERR_KV_CHECKSUM'))
        bench.expectTaken(placed, await bench.takeBy(request, way, placed), expected, nameOf(way))
      })
      await fc.assert(property, { numRuns: 30 })
    })

    test('blocks asked for in place of each other are misses', async () => {
      const bench = await Bench.open(kind, FULL)
      const placed = (await bench.fill()).slice(0, 2)
      for (const way of verifying) {
        const request = await bench.takeRequest(way, placed)
        request.hashes.set(hashesOf(placed.map(({ block }) => block).reverse()))
        const taken = await bench.takeBy(request, way, placed)
        bench.expectTaken(placed, taken, all(2, missed('ERR_KV_CHECKSUM')), nameOf(way))
      }
    })
  })
})
