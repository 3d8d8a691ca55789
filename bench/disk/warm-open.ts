/**
 * Opening a disk tier that a former process left full: a million records, read from the page cache, checked, and taken over
 * by the accounting. Blocks are as small as slots can be, so that the slab stays small; opening does not read it.
 */
import { rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { BlockManager } from '../../lib/block-manager.js'
import { GroupBlocks } from '../../lib/blocks/group-blocks.js'
import { formatCount } from '../../lib/cli/format.js'
import { findStores } from '../../lib/cli/stores.js'
import { fingerprintOf } from '../../lib/identity/fingerprint.js'
import { groupShapeOf } from '../../lib/identity/model-layout.js'
import type { OpenedSlab, OpenedStore } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { RECORD_BYTES } from '../../lib/native/sizes.js'
import { GiB, KiB } from '../../lib/options.js'
import { openBinding } from '../harness/native.js'
import { type BlockShape, layoutFor } from '../harness/store.js'
import type { BenchContext, Group, GroupSpec, Skipped } from '../harness/types.js'

const RECORDS = 1_000_000
const CHAIN_BLOCKS = 1_000
const HOST_SLOTS = 64
const SHAPE: BlockShape = { blockBytes: 4 * KiB, layers: 1, bytesPerToken: 128 }
const MODEL = 'bench'

async function openManager(directory: string): Promise<BlockManager> {
  return await BlockManager.open({
    layout: layoutFor(SHAPE),
    model: MODEL,
    host: { capacityBytes: HOST_SLOTS * SHAPE.blockBytes },
    disk: { directory, capacityBytes: RECORDS * (SHAPE.blockBytes + RECORD_BYTES) },
    flushOnClose: false,
  })
}

/** What of it native code does, and what making the accounting's arrays costs; the rest is their adoption. */
async function measureParts(directory: string): Promise<{ recover: number; prepare: number }> {
  const native = openBinding()
  const done = completions()
  const layout = layoutFor(SHAPE)
  const [group] = layout.groups
  if (group === undefined) throw new Error('The layout has no group.')
  const fingerprint = fingerprintOf({ model: MODEL, layout })
  const shape = groupShapeOf(group, layout.tokensPerBlock)
  const { store } = await done.call<OpenedStore>((ticket) => native.startOpenStore(ticket, directory, fingerprint))
  const started = performance.now()
  const { storage } = await done.call<OpenedSlab>((ticket) =>
    native.startOpenSlab(ticket, store, 0, shape, RECORDS, true, false),
  )
  const recovered = performance.now()
  new GroupBlocks({
    tiers: [{ slotCount: 0 }, { slotCount: HOST_SLOTS }, { slotCount: RECORDS }],
    policy: 'lru',
    prefixClosed: true,
  })
  const made = performance.now()
  await done.call<undefined>((ticket) => native.startClose(ticket, storage))
  await done.call<undefined>((ticket) => native.startClose(ticket, store))
  return { recover: (recovered - started) / 1000, prepare: (made - recovered) / 1000 }
}

async function open({ limits, directory }: BenchContext, scattered: boolean): Promise<Group | Skipped> {
  const { bavail, bsize } = statfsSync(directory)
  if (bavail * bsize < 6 * GiB) return { skipped: `${directory} has less than 6 GiB free for a slab of 4 GiB` }
  const root = join(directory, `warm-open-${scattered ? 'anywhere' : 'in-a-row'}`)
  await (await openManager(root)).close()
  const [found] = await findStores(root)
  if (found === undefined) throw new Error(`No store was made in ${root}.`)
  limits.fillRecords(found.directory, CHAIN_BLOCKS, scattered)
  const table = join(found.directory, 'group-0.table')
  const parameters = {
    records: RECORDS,
    chainBlocks: CHAIN_BLOCKS,
    slotsOfAChain: scattered ? 'anywhere' : 'in a row',
    pageCache: 'warm',
    clock: 'wall time',
  }
  const row = { unit: 's', better: 'lower', limit: null, aim: null, parameters } as const
  const name = `warm open, ${formatCount(RECORDS)} records ${scattered ? 'anywhere' : 'in a row'}`
  return {
    rows: [
      {
        ...row,
        name,
        subject: 'open',
        limit: { name: 'reading the table and hashing every record', sample: 'read' },
        aim: { of: 'value', bound: 0.5 },
      },
      {
        ...row,
        name: `${name}, processor time`,
        subject: 'cpu',
        limit: { name: 'the same', sample: 'readCpu' },
        parameters: { ...parameters, clock: 'processor time of all threads, manager opened' },
      },
      { ...row, name: `${name}: native recovery`, subject: 'recover' },
      { ...row, name: `${name}: arrays of the accounting`, subject: 'prepare' },
      { ...row, name: `${name}: adoption`, subject: 'adopt' },
    ],
    measures: [
      async () => {
        const cpuBefore = limits.processCpuSeconds()
        const manager = await openManager(root)
        const cpu = limits.processCpuSeconds() - cpuBefore
        const { counters, diskOpenMs } = manager.stats()
        await manager.close()
        if (counters.recovered !== RECORDS) throw new Error(`${counters.recovered} of ${RECORDS} records were found.`)
        const { recover, prepare } = await measureParts(root)
        const open = diskOpenMs / 1000
        return { open, cpu, recover, prepare, adopt: open - recover - prepare }
      },
      () => {
        const [read, readCpu] = limits.readRecords(table)
        return { read, readCpu }
      },
    ],
    close: () => rmSync(root, { recursive: true, force: true }),
  }
}

/** See the file's first lines. In a row as a new store is filled, anywhere as it becomes when blocks come and go. */
export const WARM_OPEN: readonly GroupSpec[] = [false, true].map((scattered) => ({
  suite: 'disk',
  name: `warm open, slots ${scattered ? 'anywhere' : 'in a row'}`,
  rounds: 5,
  open: (context) => open(context, scattered),
}))
