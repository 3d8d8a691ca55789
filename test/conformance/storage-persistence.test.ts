/** What the storages of the catalog that say so keep when they are closed, and that the others say that they keep nothing. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { binding, RECORD_WORDS, type SlabContents, type TransferRequest } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { ARRIVED, all, hashesOf, missed, numbers } from '../native-binding/harness.ts'
import { errorOf } from '../support/expect-code.ts'
import { testing, withFaults } from '../support/io.ts'
import { Bench, type Placed, transfer } from '../support/storages/bench.ts'
import { STORAGES } from '../support/storages/catalog.ts'
import { nameOf } from '../support/storages/kind.ts'
import { blockBytesOf } from '../support/storages/lent-memory.ts'
import { FORMS, FULL } from '../support/storages/shapes.ts'

/** What a storage may be told to keep beside a block. */
interface Kept extends Placed {
  readonly parent: number | null
  readonly depth: number
  readonly tenantTag: number
  readonly priority: number
  readonly expiresAtS: number
  readonly lastUseS: number
}

const erase = (bench: Bench, slots: readonly number[]): Promise<unknown> =>
  completions().call((ticket) => binding.startErase(ticket, bench.storage, Uint32Array.from(slots)))
const sync = (bench: Bench): Promise<unknown> =>
  completions().call((ticket) => binding.startSync(ticket, bench.storage))

/** The same request, with records. */
function recorded(request: TransferRequest, kept: readonly Kept[]): TransferRequest {
  const parents = new Uint8Array(kept.length * 32)
  const records = new Uint32Array(kept.length * RECORD_WORDS)
  for (const [i, each] of kept.entries()) {
    if (each.parent !== null) parents.set(hashesOf([each.parent]), i * 32)
    records.set([each.depth, each.tenantTag, each.priority, each.expiresAtS, each.lastUseS], i * RECORD_WORDS)
  }
  return { ...request, parents, records }
}

/** What was found, in the order of the slots. */
function found(contents: SlabContents): Kept[] {
  const blockOf = (place: number): number => new DataView(contents.hashes.buffer).getUint32(place * 32, true) - 1
  const list = [...contents.slots].map((slot, i) => ({
    slot,
    block: blockOf(i),
    parent: contents.parents[i]! < 0 ? null : blockOf(contents.parents[i]!),
    depth: contents.depths[i]!,
    tenantTag: contents.tenantTags[i]!,
    priority: contents.priorities[i]!,
    expiresAtS: contents.expiresAtS[i]!,
    lastUseS: contents.lastUsesS[i]!,
  }))
  expect(contents.hashes).toEqual(hashesOf(list.map(({ block }) => block)))
  return list.sort((a, b) => a.slot - b.slot)
}

function placedOf(contents: SlabContents): Placed[] {
  return found(contents).map(({ slot, block }) => ({ slot, block }))
}

/** Chains of blocks in slots that have nothing to do with their order. */
function chains(slotCount: number): fc.Arbitrary<Kept[]> {
  const word = fc.integer({ min: 0, max: 0xffffffff })
  const slots = fc.shuffledSubarray(numbers(slotCount), { minLength: 1 })
  return fc
    .tuple(slots, fc.integer({ min: 1, max: 4 }), fc.array(word, { minLength: 8, maxLength: 8 }))
    .map((drawn) => {
      const [taken, chainCount, words] = drawn
      return taken.map((slot, i) => ({
        slot,
        block: i,
        parent: i < chainCount ? null : i - chainCount,
        depth: Math.floor(i / chainCount),
        tenantTag: words[i % 8]!,
        priority: words[(i + 1) % 8]!,
        expiresAtS: words[(i + 2) % 8]!,
        lastUseS: words[(i + 3) % 8]!,
      }))
    })
}

const [persistent, fleeting] = [STORAGES.filter((kind) => kind.persistent), STORAGES.filter((kind) => !kind.persistent)]

test.each(fleeting.map((kind) => [kind.name, kind] as const))('%s says that it keeps nothing', async (_, kind) => {
  const bench = await Bench.open(kind, FULL)
  const guards = await bench.fill()
  expect(bench.opened.contents).toBeNull()
  await expect(erase(bench, [0])).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_UNSUPPORTED' })
  await expect(sync(bench)).rejects.toMatchObject({ name: 'KvError', code: 'ERR_KV_UNSUPPORTED' })
  await bench.expectHolds(guards, kind.outOf.slice(-1))
})

describe.each(persistent.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  const into = kind.into[0]!

  async function store(bench: Bench, kept: readonly Kept[]): Promise<void> {
    const request = recorded(await bench.putRequest(into, kept), kept)
    const report = await transfer(request)
    expect(report.outcomes).toEqual(all(kept.length, ARRIVED))
  }

  describe.each(FORMS.map((form) => [form.name, form] as const))('of %s', (__, form) => {
    test('gives back every block with its record after closing', async () => {
      const property = fc.asyncProperty(chains(form.slotCount), async (kept) => {
        const bench = await Bench.open(kind, form)
        expect(found(bench.opened.contents!)).toEqual([])
        await store(bench, kept)
        const again = await bench.reopen()
        const sorted = kept.toSorted((a, b) => a.slot - b.slot)
        expect(found(again.opened.contents!)).toEqual(sorted)
        expect(again.opened.contents).toMatchObject({ recordsRejected: 0, recordsSuperseded: 0, recordsOrphaned: 0 })
        await again.expectHolds(kept, kind.outOf.slice(-1))
        expect(await again.check(kept)).toEqual(all(kept.length, { code: 'OK', stage: 0 }))
        await again.close()
      })
      await fc.assert(property, { numRuns: 3 })
    })

    test('finds blocks whose parents were erased only where they are of use alone', async () => {
      const kept = [0, 1, 2].slice(0, form.slotCount).map((block) => ({
        slot: form.slotCount - 1 - block,
        block,
        parent: block === 0 ? null : block - 1,
        depth: block,
        tenantTag: 0,
        priority: 0,
        expiresAtS: 0,
        lastUseS: 0,
      }))
      const bench = await Bench.open(kind, form)
      await store(bench, kept)
      await erase(bench, [kept[0]!.slot])
      const again = await bench.reopen()
      const left = form.keepOrphans ? kept.slice(1).reverse() : []
      expect(placedOf(again.opened.contents!)).toEqual(left.map(({ slot, block }) => ({ slot, block })))
      expect(again.opened.contents!.recordsOrphaned).toBe(form.keepOrphans ? 0 : kept.length - 1)
      await again.expectHolds(left, kind.outOf.slice(-1))
    })
  })

  test('keeps what was synced', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    expect(await sync(bench)).toBeUndefined()
    expect(placedOf((await bench.reopen()).opened.contents!)).toEqual(guards)
  })

  test('finds neither what was erased nor what was overwritten', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    const fresh = [
      { slot: 1, block: 1 },
      { slot: 6, block: 2 },
    ]
    await bench.put(into, fresh)
    await erase(bench, [0, 4])
    const again = await bench.reopen()
    const expected = guards.filter(({ slot }) => ![0, 1, 4, 6].includes(slot)).concat(fresh)
    expect(placedOf(again.opened.contents!)).toEqual(expected.toSorted((a, b) => a.slot - b.slot))
    await again.expectHolds(expected)
  })

  test('finds a block that was stored twice once, where it was stored last', async () => {
    const bench = await Bench.open(kind, FULL)
    await bench.put(into, [{ slot: 5, block: 1 }])
    await bench.put(into, [{ slot: 3, block: 1 }])
    await bench.put(into, [{ slot: 3, block: 2 }])
    await bench.put(into, [{ slot: 2, block: 1 }])
    const { contents } = (await bench.reopen()).opened
    expect(placedOf(contents!)).toEqual([
      { slot: 2, block: 1 },
      { slot: 3, block: 2 },
    ])
    expect(contents!.recordsSuperseded).toBe(1)
  })

  test('stores blocks after opening that are newer than those it found', async () => {
    const bench = await Bench.open(kind, FULL)
    await bench.put(into, [{ slot: 5, block: 1 }])
    await bench.put(into, [{ slot: 4, block: 2 }])
    const second = await bench.reopen()
    // In a slot before and in one behind.
    await second.put(into, [
      { slot: 2, block: 1 },
      { slot: 7, block: 2 },
    ])
    expect(placedOf((await second.reopen()).opened.contents!)).toEqual([
      { slot: 2, block: 1 },
      { slot: 7, block: 2 },
    ])
  })

  test('has nothing for another model or another layer group, and keeps theirs apart', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    const block = { slot: 0, block: 1 }
    for (const change of [{ fingerprint: new Uint8Array(32).fill(8) }, { group: 1 }]) {
      const stranger = await bench.reopen(change)
      expect(found(stranger.opened.contents!)).toEqual([])
      const nothing = all(guards.length, missed('ERR_KV_CHECKSUM'))
      if (testing.verifies) expect(await stranger.check(guards)).toEqual(nothing)
      await stranger.put(into, [block])
      const later = await stranger.reopen(change)
      expect(placedOf(later.opened.contents!)).toEqual([block])
      await later.close()
    }
    const again = await bench.reopen()
    expect(placedOf(again.opened.contents!)).toEqual(guards)
    await again.expectHolds(guards)
  })

  test('keeps the blocks that fit when it is opened with fewer slots, and all when with more', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    const larger = await bench.reopen({ slotCount: 20 })
    expect(placedOf(larger.opened.contents!)).toEqual(guards)
    const last = { slot: 19, block: 1 }
    await larger.put(into, [last])
    await larger.expectHolds([...guards.slice(1), last], kind.outOf.slice(-1))
    const smaller = await larger.reopen({ slotCount: 4 })
    expect(placedOf(smaller.opened.contents!)).toEqual(guards.slice(0, 4))
    await smaller.expectHolds(guards.slice(0, 4), kind.outOf.slice(-1))
    const beyond = await smaller.putRequest(into, [{ slot: 4, block: 1 }])
    errorOf('ERR_KV_SLOT_OUT_OF_RANGE', () => binding.startTransfer(1, beyond))
    const again = await smaller.reopen()
    expect(placedOf(again.opened.contents!)).toEqual(guards.slice(0, 4))
  })

  test('is refused for another shape, and is whole after that', async () => {
    const bench = await Bench.open(kind, FULL)
    const guards = await bench.fill()
    const other = { ...FULL.shape, layers: 1, tokensPerBlock: 12 }
    await expect(bench.reopen({ shape: other })).rejects.toMatchObject({ code: 'ERR_KV_LAYOUT_MISMATCH' })
    const again = await bench.reopen()
    expect(placedOf(again.opened.contents!)).toEqual(guards)
    await again.expectHolds(guards)
  })

  describe.runIf(testing.verifies)('verifies what it kept:', () => {
    test('a bit that changed while it was closed is a miss of its block, and of no other', async () => {
      const last = blockBytesOf(FULL.shape) - 1
      const place = fc.tuple(fc.nat(FULL.slotCount - 1), fc.nat(last))
      const property = fc.asyncProperty(place, fc.constantFrom(...kind.outOf), async ([slot, byte], way) => {
        const bench = await Bench.open(kind, FULL)
        const guards = await bench.fill()
        await bench.close()
        bench.opened.flip!(slot, byte)
        const again = await bench.reopen()
        expect(placedOf(again.opened.contents!)).toEqual(guards)
        const expected = all(guards.length, ARRIVED).with(slot, missed('ERR_KV_CHECKSUM'))
        again.expectTaken(guards, await again.take(way, guards), expected, nameOf(way))
        await again.close()
      })
      await fc.assert(property, { numRuns: 10 })
    })

    test('whatever failed while it was written, what it finds is right or a miss', async () => {
      const faults = fc.constantFrom('writeError', 'writeNoSpace', 'writeFlip', 'lostWrite', 'misdirectedWrite')
      const property = fc.asyncProperty(fc.nat(), faults, async (seed, fault) => {
        const bench = await Bench.open(kind, FULL)
        const guards = await bench.fill()
        const placed = [1, 2, 5, 8].map((slot) => ({ slot, block: slot }))
        const request = await bench.putRequest(into, placed)
        const report = await withFaults({ seed, [fault]: 0.4 }, () => transfer(request))
        const again = await bench.reopen()
        const kept = placedOf(again.opened.contents!)
        for (const way of kind.outOf.slice(-2)) again.expectRight(kept, await again.take(way, kept), nameOf(way))
        if (fault === 'writeError' || fault === 'writeNoSpace') {
          // A disk that does not lie has what it said, and every block that nobody touched.
          const said = placed.filter((__, i) => report.outcomes[i]!.code === 'OK')
          const others = guards.filter(({ slot }) => placed.every((each) => each.slot !== slot))
          for (const each of [...said, ...others]) expect(kept).toContainEqual(each)
          await again.expectHolds([...said, ...others], kind.outOf.slice(-1))
        }
        await again.close()
      })
      await fc.assert(property, { numRuns: 25 })
    })
  })
})
