/** What a transfer costs beside its bytes: blocks of 64 bytes, one promise for many of them and one for each. */
import { closeStorage, openMemory, SlotBatch } from '../harness/native.js'
import { median } from '../harness/statistics.js'
import type { BenchContext, Group, GroupSpec } from '../harness/types.js'

const BLOCKS = 256
const BATCHES = 60
const SINGLES = 20
const BARE = 50_000
const ROUND_TRIPS = 400

async function barePromises(): Promise<void> {
  const resolvers: (() => void)[] = new Array(BLOCKS)
  const promises: Promise<void>[] = new Array(BLOCKS)
  for (let done = 0; done < BARE; done += BLOCKS) {
    for (let i = 0; i < BLOCKS; i++) {
      promises[i] = new Promise((resolve) => {
        resolvers[i] = resolve
      })
    }
    for (const resolve of resolvers) resolve()
    await Promise.all(promises)
  }
}

async function roundTripsOf(once: () => Promise<void>): Promise<number> {
  const microseconds: number[] = []
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const started = performance.now()
    await once()
    microseconds.push((performance.now() - started) * 1000)
  }
  return median(microseconds)
}

async function open({ limits }: BenchContext): Promise<Group> {
  const shape = { parts: 1, layers: 1, outer: 1, tokensPerBlock: 1, bytesPerToken: 64 }
  const source = await openMemory('contiguous', shape, BLOCKS)
  const target = await openMemory('contiguous', shape, BLOCKS)
  const whole = new SlotBatch('memoryToMemory', source, target, BLOCKS)
  const singles = Array.from({ length: BLOCKS }, (_, slot) => new SlotBatch('memoryToMemory', source, target, 1, slot))
  let answered: () => void = () => undefined
  const ping = limits.openPing(() => answered())

  const microseconds = async (blocks: number, work: () => Promise<void>): Promise<{ own: number; all: number }> => {
    const [own, all] = [limits.threadCpuSeconds(), limits.processCpuSeconds()]
    await work()
    return {
      own: ((limits.threadCpuSeconds() - own) / blocks) * 1e6,
      all: ((limits.processCpuSeconds() - all) / blocks) * 1e6,
    }
  }
  const floor = { name: 'bare new Promise, resolved and awaited', sample: 'bare' }
  const row = { unit: 'us', better: 'lower', limit: floor } as const
  const own = { blocksOfBytes: 64, clock: 'processor time of the JavaScript thread' }
  const all = { blocksOfBytes: 64, clock: 'processor time of all threads' }
  return {
    rows: [
      {
        ...row,
        name: `a block in a batch of ${BLOCKS}`,
        subject: 'batch',
        aim: { of: 'ratio', bound: 1.5 },
        parameters: { ...own, batches: BATCHES },
      },
      { ...row, name: `a block in a batch of ${BLOCKS}, all threads`, subject: 'batchAll', aim: null, parameters: all },
      {
        ...row,
        name: `a block with a promise of its own, ${BLOCKS} at once`,
        subject: 'single',
        aim: { of: 'ratio', bound: 5 },
        parameters: { ...own, times: SINGLES },
      },
      {
        ...row,
        name: `a block with a promise of its own, all threads`,
        subject: 'singleAll',
        aim: null,
        parameters: all,
      },
      {
        name: 'round trip of one block',
        unit: 'us',
        subject: 'trip',
        limit: { name: 'ping through a bare thread-safe function', sample: 'ping' },
        better: 'lower',
        aim: { of: 'ratio', bound: 2 },
        parameters: { blocksOfBytes: 64, trips: ROUND_TRIPS, clock: 'wall time, median' },
      },
    ],
    measures: [
      async () => {
        const cost = await microseconds(BLOCKS * BATCHES, async () => {
          for (let i = 0; i < BATCHES; i++) await whole.run()
        })
        return { batch: cost.own, batchAll: cost.all }
      },
      async () => {
        const cost = await microseconds(BLOCKS * SINGLES, async () => {
          for (let i = 0; i < SINGLES; i++) await Promise.all(singles.map((single) => single.start().settled))
        })
        return { single: cost.own, singleAll: cost.all }
      },
      async () => ({ bare: (await microseconds(BARE, barePromises)).own }),
      async () => ({ trip: await roundTripsOf(() => (singles[0] as SlotBatch).start().settled) }),
      async () => {
        const once = (): Promise<void> =>
          new Promise((resolve) => {
            answered = resolve
            limits.sendPing(ping)
          })
        return { ping: await roundTripsOf(once) }
      },
    ],
    async close() {
      limits.close(ping)
      await closeStorage(source)
      await closeStorage(target)
    },
  }
}

/** See the file's first lines. */
export const PROMISES: readonly GroupSpec[] = [{ suite: 'micro', name: 'promises', rounds: 7, open }]
