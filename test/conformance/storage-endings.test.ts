/** What becomes of blocks when a transfer is ended early, its storage is closed under it, or the disk fails. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { binding, type FaultProfile } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import type { ErrorCode } from '../../lib/native/generated.ts'
import { ARRIVED, all, close, hashesOf, missed, startBatch } from '../native-binding/harness.ts'
import { errorOf } from '../support/expect-code.ts'
import { countIo, isSettled, testing, untilHeld, withFaults } from '../support/io.ts'
import { Bench, type Placed, transfer } from '../support/storages/bench.ts'
import { STORAGES } from '../support/storages/catalog.ts'
import { DISK_THREADS, Jam } from '../support/storages/jam.ts'
import { nameOf, usesDisk, type Way } from '../support/storages/kind.ts'
import { FULL } from '../support/storages/shapes.ts'

/** Not neighbours, so that a disk needs an operation for each. */
const STORED: readonly Placed[] = [1, 3, 4, 7].map((slot) => ({ slot, block: slot }))
const CODES = ['ERR_KV_ABORTED', 'ERR_KV_DEADLINE'] as const

/** What a disk does to half of its calls, and what may become of a block. */
const FAULTS: readonly (readonly [
  string,
  { readonly profile: Partial<FaultProfile>; readonly onWrite: boolean; readonly allowed: readonly ErrorCode[] },
])[] = [
  ['reads that fail', { profile: { readError: 0.5 }, onWrite: false, allowed: ['ERR_KV_IO'] }],
  ['short reads', { profile: { shortRead: 0.5 }, onWrite: false, allowed: [] }],
  ['bits that flip on reading', { profile: { readFlip: 0.5 }, onWrite: false, allowed: ['ERR_KV_CHECKSUM'] }],
  ['writes that fail', { profile: { writeError: 0.5 }, onWrite: true, allowed: ['ERR_KV_IO'] }],
  ['short writes', { profile: { shortWrite: 0.5 }, onWrite: true, allowed: [] }],
  ['a full disk', { profile: { writeNoSpace: 0.5 }, onWrite: true, allowed: ['ERR_KV_NO_SPACE'] }],
]

/** A way and its direction: some ways are the same in both. */
interface Trip {
  readonly way: Way
  readonly goesIn: boolean
}

/** Those of the first in whose slots none of the others stands. */
function beside(guards: readonly Placed[], placed: readonly Placed[]): Placed[] {
  return guards.filter(({ slot }) => placed.every((each) => each.slot !== slot))
}

describe.each(STORAGES.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  const trips: readonly Trip[] = [
    ...kind.into.map((way) => ({ way, goesIn: true })),
    ...kind.outOf.map((way) => ({ way, goesIn: false })),
  ]
  const diskTrips = trips.filter(({ way }) => usesDisk(way))
  const verifying = kind.outOf.filter(usesDisk)

  /** The blocks of a batch, where they stand and what they hold besides. */
  async function prepared({ way, goesIn }: Trip, bench: Bench) {
    const guards = await bench.fill()
    const placed = goesIn ? STORED : STORED.map(({ slot }) => guards[slot]!)
    return { guards, placed, request: await bench.request(way, goesIn, placed) }
  }

  test('does nothing of a batch that is ended before its turn, and says so of every block', async () => {
    const bench = await Bench.open(kind, FULL)
    const jam = await Jam.open()
    for (const [i, trip] of diskTrips.entries()) {
      const { way, goesIn } = trip
      const { guards, placed, request } = await prepared(trip, bench)
      await jam.hold(DISK_THREADS)
      const code = CODES[i % 2]!
      const { ticket, done } = startBatch((each) => binding.startTransfer(each, request))
      expect(await isSettled(done), nameOf(way)).toBe(false)
      completions().cancel(ticket, code)
      const report = await done
      expect(report, nameOf(way)).toMatchObject({ code, outcomes: all(placed.length, missed(code)) })
      await report.settled
      await jam.release()
      if (!goesIn) await bench.expectNothingCame(way, placed, request)
      await bench.expectHolds(guards, kind.outOf.slice(-1))
    }
  })

  test('ends a batch at once that is under way, and settles when nothing touches its slots any more', async () => {
    const bench = await Bench.open(kind, FULL)
    const jam = await Jam.open()
    for (const [i, trip] of diskTrips.entries()) {
      const { way, goesIn } = trip
      const { guards, placed, request } = await prepared(trip, bench)
      await jam.hold(0)
      const code = CODES[i % 2]!
      const { ticket, done } = startBatch((each) => binding.startTransfer(each, request))
      await untilHeld()
      completions().cancel(ticket, code)
      const report = await done
      expect(report, nameOf(way)).toMatchObject({ code, outcomes: all(placed.length, missed(code)) })
      expect(await isSettled(report.settled), nameOf(way)).toBe(false)
      await jam.release()
      await report.settled
      await bench.expectHolds(goesIn ? beside(guards, placed) : guards, kind.outOf.slice(-1))
      // The slots can be used again as if nothing had been.
      await bench.put(kind.into[0]!, STORED)
      await bench.expectHolds(STORED, kind.outOf.slice(-1))
    }
  })

  test('is closed when what is under way has arrived; what waits is a miss, and what comes later is refused', async () => {
    for (const trip of diskTrips) {
      const { way, goesIn } = trip
      const bench = await Bench.open(kind, FULL)
      const jam = await Jam.open()
      const { placed, request } = await prepared(trip, bench)
      const first = placed.slice(0, 1)
      const one = await bench.request(way, goesIn, first)
      const order: string[] = []
      let outcome = 0
      await jam.hold(0)
      completions().batch((ticket) => binding.startTransfer(ticket, one), {
        onDone: (outcomes) => {
          outcome = outcomes[0] ?? 0
          order.push('arrived')
        },
        onSettled: () => order.push('settled'),
      })
      await untilHeld()
      await jam.hold(DISK_THREADS - 1)
      const waiting = startBatch((ticket) => binding.startTransfer(ticket, request))
      const closed = new Promise<void>((resolve) => {
        completions().batch((ticket) => binding.startClose(ticket, bench.storage), {
          onDone: () => order.push('closed'),
          onSettled: resolve,
        })
      })
      expect((await waiting.done).outcomes, nameOf(way)).toEqual(all(placed.length, missed('ERR_KV_CLOSED')))
      errorOf('ERR_KV_CLOSED', () => binding.startTransfer(1, request))
      expect(await isSettled(closed)).toBe(false)
      expect(order).toEqual([])
      await jam.release()
      await closed
      expect(order, nameOf(way)).toEqual(['arrived', 'settled', 'closed'])
      expect(outcome).toBe(ARRIVED.stage << 8)
      if (!goesIn) {
        const taken = await bench.collect(way, first, one, { outcomes: [ARRIVED] })
        bench.expectTaken(first, taken, [ARRIVED], nameOf(way))
      }
      await bench.close()
    }
  })

  test('refuses every call once it is closed', async () => {
    const bench = await Bench.open(kind, FULL)
    const requests = [
      await bench.putRequest(kind.into[0]!, STORED),
      await bench.putRequest(kind.into.at(-1)!, STORED),
      await bench.takeRequest(kind.outOf.at(-1)!, STORED),
    ]
    const { storage } = bench
    await close(storage)
    for (const request of requests) errorOf('ERR_KV_CLOSED', () => binding.startTransfer(1, request))
    const slots = Uint32Array.of(0)
    for (const call of ['startSeal', 'startFillPattern', 'startCheckPattern'] as const) {
      errorOf('ERR_KV_CLOSED', () => binding[call](1, storage, slots, hashesOf([0])))
    }
    errorOf('ERR_KV_CLOSED', () => binding.startErase(1, storage, slots))
    errorOf('ERR_KV_CLOSED', () => binding.startSync(1, storage))
    errorOf('ERR_KV_CLOSED', () => binding.startClose(1, storage))
    errorOf('ERR_KV_CLOSED', () => binding.openWindow(storage, 0))
    expect(completions().pending).toBe(0)
  })

  test(`${kind.canBeFaulted ? 'does' : 'does not do'} I/O of its own`, async () => {
    const bench = await Bench.open(kind, FULL)
    const placed = await bench.fill()
    const ways = [kind.into[0]!, kind.outOf[0]!]
    const requests = [await bench.putRequest(ways[0]!, placed), await bench.takeRequest(ways[1]!, placed)]
    for (const request of requests) {
      const calls = await countIo(() => transfer(request))
      expect(calls > 0).toBe(kind.canBeFaulted)
    }
  })

  describe.runIf(testing.verifies)('on a disk that fails', () => {
    const isPossible = (onWrite: boolean) => diskTrips.some(({ way }) => (way.path === 'memoryToSlab') === onWrite)

    test.each(FAULTS.filter(([, { onWrite }]) => isPossible(onWrite)))(
      'says of every block whether it came, with %s',
      async (__, { profile, onWrite, allowed }) => {
        const bench = await Bench.open(kind, FULL)
        const chosen = diskTrips.filter(({ way }) => (way.path === 'memoryToSlab') === onWrite)
        let injected = 0
        const property = fc.asyncProperty(fc.nat(), fc.constantFrom(...chosen), async (seed, trip) => {
          const { way, goesIn } = trip
          const { guards, placed, request } = await prepared(trip, bench)
          const report = await withFaults({ seed, ...profile }, async () => {
            const each = await transfer(request)
            injected += testing.faultsInjected()
            return each
          })
          const possible = [ARRIVED, ...allowed.map(missed)]
          for (const outcome of report.outcomes) expect(possible).toContainEqual(outcome)
          if (goesIn) {
            const came = placed.filter((___, i) => report.outcomes[i]!.code === 'OK')
            await bench.expectHolds([...came, ...beside(guards, placed)], kind.outOf.slice(-1))
          } else {
            bench.expectRight(placed, await bench.collect(way, placed, request, report), nameOf(way))
            await bench.expectHolds(guards, kind.outOf.slice(-1))
          }
        })
        await fc.assert(property, { numRuns: 15 })
        expect(injected).toBeGreaterThan(0)
      },
    )

    test('loses one block at most by a read that fails, wherever that is', async () => {
      const bench = await Bench.open(kind, FULL)
      for (const { way, goesIn } of diskTrips.filter((trip) => trip.way.path !== 'memoryToSlab')) {
        const guards = await bench.fill()
        const placed = goesIn ? bench.everySlot(1) : guards
        for (let failCall = 1; ; failCall++) {
          const request = await bench.request(way, goesIn, placed)
          const faulty = await withFaults({ seed: 1, failCall }, async () => {
            return { report: await transfer(request), injected: testing.faultsInjected() }
          })
          if (faulty.injected === 0) break
          const lost = faulty.report.outcomes.filter(({ code }) => code !== 'OK')
          expect(lost.length, `${nameOf(way)}, call ${failCall}`).toBeLessThan(2)
        }
      }
    })

    test('never gives back other bytes, whatever a disk that lies has made of them', async () => {
      const bench = await Bench.open(kind, FULL)
      const lies = fc.constantFrom('writeFlip', 'lostWrite', 'misdirectedWrite', 'readFlip')
      const stores = fc.constantFrom(...diskTrips.filter(({ goesIn }) => goesIn))
      const property = fc.asyncProperty(fc.nat(), lies, stores, async (seed, lie, trip) => {
        const { guards, request } = await prepared(trip, bench)
        const report = await withFaults({ seed, [lie]: 0.4 }, () => transfer(request))
        const said = STORED.filter((___, i) => report.outcomes[i]!.code === 'OK')
        const others = beside(guards, STORED)
        for (const out of verifying.length > 0 ? verifying : kind.outOf) {
          for (const placed of [said, others]) bench.expectRight(placed, await bench.take(out, placed), nameOf(out))
        }
      })
      await fc.assert(property, { numRuns: 30 })
    })
  })
})
