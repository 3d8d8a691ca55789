/** `kvtier verify`: reads every block of a disk tier and compares it with its record. Never writes. */
import { resolve } from 'node:path'

import { blockBytesOfShape } from '../identity/layer-groups.js'
import { ERROR_CODES } from '../native/generated.js'
import { HASH_BYTES } from '../native/sizes.js'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { formatBytes, formatCount, formatDuration, formatRate, plural, printable } from './format.js'
import type { CliNative, InspectedSlab } from './native-access.js'
import { type Progress, startProgress } from './progress.js'
import {
  cutText,
  failureText,
  type GroupFailure,
  reportStores,
  type StoreReport,
  unreadableText,
} from './store-report.js'
import { type FoundStore, findStores, selectStore } from './stores.js'
import { renderTable } from './table.js'

/** A slot whose bytes are not those of its record. */
interface BadSlot {
  readonly slot: number
  /** The sequence hash of the record, in hex. */
  readonly hash: string
  readonly code: string
}

interface GroupReport {
  readonly group: number
  readonly slots: number
  /** Slots whose records lie behind the end of a table that was cut: nothing can be said of their blocks. */
  readonly slotsMissing: number
  readonly blocks: number
  readonly bytes: number
  readonly recordsRejected: number
  /** Records that the disk could not read. */
  readonly recordsUnreadable: number
  /** Blocks that another process replaced while they were checked; not an error. */
  readonly changedMeanwhile: number
  readonly bad: readonly BadSlot[]
}

const OPTIONS = {
  store: {
    kind: 'text',
    placeholder: 'HEX',
    help: 'check only the store whose fingerprint begins so (default: every store)',
  },
} as const

const BATCH_BYTES = 64 * 1024 * 1024
const BATCH_BLOCKS = 1024
const MOST_SHOWN = 50

/** The places of a table's blocks, in order of their slots, so that the disk is read from front to back. */
function placesBySlot(slab: InspectedSlab): Uint32Array {
  const { slots } = slab.contents
  return Uint32Array.from(slots.keys()).sort((a, b) => slots[a]! - slots[b]!)
}

function hashAt(slab: InspectedSlab, place: number): string {
  const start = place * HASH_BYTES
  return Buffer.from(slab.contents.hashes.subarray(start, start + HASH_BYTES)).toString('hex')
}

/** Checks the blocks at `places` of a slab's table; gives those that are bad. */
async function checkPlaces(
  context: VerbContext<typeof OPTIONS>,
  native: CliNative,
  slab: InspectedSlab,
  places: Uint32Array,
  progress: Progress,
): Promise<BadSlot[]> {
  const bad: BadSlot[] = []
  const perBatch = Math.max(1, Math.min(BATCH_BLOCKS, Math.floor(BATCH_BYTES / blockBytesOfShape(slab.shape))))
  for (let first = 0; first < places.length; first += perBatch) {
    context.signal.throwIfAborted()
    const batch = places.subarray(first, first + perBatch)
    const slots = batch.map((place) => slab.contents.slots[place]!)
    const hashes = new Uint8Array(batch.length * HASH_BYTES)
    batch.forEach((place, index) => {
      const start = place * HASH_BYTES
      hashes.set(slab.contents.hashes.subarray(start, start + HASH_BYTES), index * HASH_BYTES)
    })
    const codes = await native.checkSlots(slab.storage, slots, hashes)
    batch.forEach((place, index) => {
      const code = codes[index]!
      if (code !== 0) bad.push({ slot: slots[index]!, hash: hashAt(slab, place), code: ERROR_CODES[code] ?? `${code}` })
    })
    progress.update(first + batch.length)
  }
  return bad
}

/**
 * Looks once more at bad slots and at a table that seems cut: a process that has the store open may have replaced blocks
 * or changed the table's size meanwhile.
 */
async function confirm(
  context: VerbContext<typeof OPTIONS>,
  native: CliNative,
  store: FoundStore,
  group: number,
  suspects: readonly BadSlot[],
): Promise<{ bad: BadSlot[]; slotsMissing: number }> {
  const slab = await native.inspectSlab(store.directory, group)
  try {
    const suspected = new Map(suspects.map((suspect) => [suspect.slot, suspect.hash]))
    const places = placesBySlot(slab).filter((place) => {
      const hash = suspected.get(slab.contents.slots[place]!)
      return hash !== undefined && hash === hashAt(slab, place)
    })
    const bad = await checkPlaces(context, native, slab, places, { update: () => undefined, end: () => undefined })
    return { bad, slotsMissing: slab.slotsMissing }
  } finally {
    await native.close(slab.storage)
  }
}

async function verifyGroup(
  context: VerbContext<typeof OPTIONS>,
  native: CliNative,
  store: FoundStore,
  group: number,
): Promise<GroupReport> {
  const slab = await native.inspectSlab(store.directory, group)
  const places = placesBySlot(slab)
  const label = `checking ${store.fingerprint.slice(0, 8)} group ${group}`
  const progress = startProgress(context, label, places.length)
  let suspects: BadSlot[]
  try {
    suspects = await checkPlaces(context, native, slab, places, progress)
  } finally {
    progress.end()
    await native.close(slab.storage)
  }
  const doubtful = suspects.length > 0 || slab.slotsMissing > 0
  const { bad, slotsMissing } = doubtful
    ? await confirm(context, native, store, group, suspects)
    : { bad: [], slotsMissing: 0 }
  return {
    group,
    slots: slab.slotCount,
    slotsMissing,
    blocks: places.length,
    bytes: places.length * blockBytesOfShape(slab.shape),
    recordsRejected: slab.contents.recordsRejected,
    recordsUnreadable: slab.contents.recordsUnreadable,
    changedMeanwhile: suspects.length - bad.length,
    bad,
  }
}

function groupText(store: StoreReport<GroupReport>, report: GroupReport | GroupFailure): string {
  const place = `store ${printable(store.fingerprint.slice(0, 8))} group ${report.group}`
  if ('error' in report) return `\n${place}: ${failureText(report)}\n`
  const lines: string[] = []
  if (report.slotsMissing > 0) lines.push(`\n${place}: ${cutText(report.slots, report.slotsMissing)}\n`)
  if (report.recordsUnreadable > 0) lines.push(`\n${place}: ${unreadableText(report.recordsUnreadable)}\n`)
  if (report.bad.length > 0) {
    lines.push(`\n${place}: ${plural(report.bad.length, 'bad slot')}; a manager treats each as a miss and drops it.\n`)
    const rows = report.bad.slice(0, MOST_SHOWN).map((bad) => [formatCount(bad.slot), bad.hash, bad.code])
    lines.push(renderTable([{ title: 'SLOT', align: 'right' }, { title: 'SEQUENCE HASH' }, { title: 'WHY' }], rows))
    const left = report.bad.length - rows.length
    if (left > 0) lines.push(`and ${formatCount(left)} more; --json lists them all.\n`)
  }
  if (report.recordsRejected > 0) {
    lines.push(
      `\n${place}: ${plural(report.recordsRejected, 'record')} whose own hash is wrong; a manager ignores them.\n`,
    )
  }
  if (report.changedMeanwhile > 0) {
    lines.push(`\n${place}: ${plural(report.changedMeanwhile, 'block')} replaced by another process meanwhile.\n`)
  }
  return lines.join('')
}

interface Totals {
  readonly badBlocks: number
  readonly recordsRejected: number
  readonly recordsUnreadable: number
  readonly tablesCut: number
  readonly tablesUnread: number
}

/** What is wrong, in a few words each; empty when all is good. */
function faultsOf(totals: Totals): string[] {
  const faults: string[] = []
  if (totals.badBlocks > 0) faults.push(`${formatCount(totals.badBlocks)} bad`)
  if (totals.recordsRejected > 0) faults.push(`${plural(totals.recordsRejected, 'record')} rejected`)
  if (totals.recordsUnreadable > 0) faults.push(`${plural(totals.recordsUnreadable, 'record')} unreadable`)
  if (totals.tablesCut > 0) faults.push(`${plural(totals.tablesCut, 'table')} cut short`)
  if (totals.tablesUnread > 0) faults.push(`${plural(totals.tablesUnread, 'table')} unread`)
  return faults
}

async function run(context: VerbContext<typeof OPTIONS>): Promise<VerbResult> {
  const directory = resolve(context.cwd, context.operands[0] ?? '.')
  const found = await findStores(directory)
  const chosen = context.values.store === undefined ? found : [selectStore(found, context.values.store)]
  const native = await context.native()
  const started = context.now()
  const { stores, read, unread } = await reportStores(chosen, context.signal, (store, group) =>
    verifyGroup(context, native, store, group),
  )
  const elapsedMs = context.now() - started
  const sum = (of: (report: GroupReport) => number): number => read.reduce((total, report) => total + of(report), 0)
  const totals = {
    blocks: sum((report) => report.blocks),
    bytes: sum((report) => report.bytes),
    badBlocks: sum((report) => report.bad.length),
    recordsRejected: sum((report) => report.recordsRejected),
    recordsUnreadable: sum((report) => report.recordsUnreadable),
    tablesCut: sum((report) => (report.slotsMissing > 0 ? 1 : 0)),
    tablesUnread: unread,
  }
  const faults = faultsOf(totals)
  const ok = faults.length === 0
  const rate = elapsedMs > 0 ? `, ${formatRate((totals.bytes / elapsedMs) * 1000)}` : ''
  const head =
    `${plural(totals.blocks, 'block')} (${formatBytes(totals.bytes)}) in ${plural(stores.length, 'store')} checked ` +
    `in ${formatDuration(elapsedMs)}${rate}: ${ok ? 'all good' : faults.join(', ')}.\n`
  return {
    json: { directory, ok, ...totals, elapsedMs, stores },
    text: head + stores.flatMap((store) => store.groups.map((report) => groupText(store, report))).join(''),
    exitCode: ok ? 0 : 1,
  }
}

/** The verb. */
export const verify: Verb = defineVerb({
  name: 'verify',
  summary: 'read every block of a disk tier and check its bytes',
  usage: 'DIR',
  details:
    'DIR is the directory of a disk tier or of one store in it. Every record is read and every payload compared with the ' +
    'checksum in its record. Nothing is written, and it works while another process has the store open; blocks that are ' +
    'replaced meanwhile are looked at again. The exit code is 1 when a block or record is bad, or a ' +
    'table was cut or cannot be read, with a list of the bad slots; the other tables are checked all the same.',
  operands: { least: 1, most: 1 },
  options: OPTIONS,
  run,
})
