/** `kvtier inspect`: what the stores of a disk tier hold, from their tables alone. */
import { resolve } from 'node:path'

import { blockBytesOfShape, slotBytesOfShape } from '../identity/layer-groups.js'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { formatBytes, formatCount, formatTime, printable } from './format.js'
import type { CliNative, InspectedSlab } from './native-access.js'
import {
  cutText,
  failureText,
  type GroupFailure,
  reportStores,
  type StoreReport,
  unreadableText,
} from './store-report.js'
import { type FoundStore, findStores } from './stores.js'
import { renderTable } from './table.js'

/** What one layer group's table says. */
interface GroupReport {
  readonly group: number
  readonly slots: number
  /** Slots whose records lie behind the end of a table that was cut. */
  readonly slotsMissing: number
  /** Slots with a block that can be found. */
  readonly used: number
  readonly tokensPerBlock: number
  readonly layers: number
  readonly parts: number
  readonly outer: number
  readonly bytesPerToken: number
  readonly blockBytes: number
  readonly usedBytes: number
  readonly capacityBytes: number
  readonly recordsRejected: number
  readonly recordsSuperseded: number
  readonly recordsOrphaned: number
  readonly recordsUnreadable: number
  /** Blocks in the longest sequence. */
  readonly deepestChain: number
  readonly tenants: readonly { readonly tag: string; readonly blocks: number }[]
  /** Unix seconds; 0 = unknown. */
  readonly oldestUseS: number
  readonly newestUseS: number
}

function largest(values: Uint32Array): number {
  return values.reduce((most, value) => Math.max(most, value), 0)
}

/** The smallest time that is known; 0 when none is. */
function oldest(times: Uint32Array): number {
  return times.reduce((least, time) => (time !== 0 && (least === 0 || time < least) ? time : least), 0)
}

function tenantsOf(tags: Uint32Array): GroupReport['tenants'] {
  const blocks = new Map<number, number>()
  for (const tag of tags) blocks.set(tag, (blocks.get(tag) ?? 0) + 1)
  return [...blocks]
    .sort(([tagA, a], [tagB, b]) => b - a || tagA - tagB)
    .map(([tag, count]) => ({ tag: tag.toString(16).padStart(8, '0'), blocks: count }))
}

function reportOf(group: number, slab: InspectedSlab): GroupReport {
  const { contents, shape, slotCount } = slab
  const blockBytes = blockBytesOfShape(shape)
  const used = contents.slots.length
  return {
    group,
    slots: slotCount,
    slotsMissing: slab.slotsMissing,
    used,
    ...shape,
    blockBytes,
    usedBytes: used * blockBytes,
    capacityBytes: slotCount * slotBytesOfShape(shape),
    recordsRejected: contents.recordsRejected,
    recordsSuperseded: contents.recordsSuperseded,
    recordsOrphaned: contents.recordsOrphaned,
    recordsUnreadable: contents.recordsUnreadable,
    deepestChain: used === 0 ? 0 : largest(contents.depths) + 1,
    tenants: tenantsOf(contents.tenantTags),
    oldestUseS: oldest(contents.lastUsesS),
    newestUseS: largest(contents.lastUsesS),
  }
}

async function inspectGroup(native: CliNative, store: FoundStore, group: number): Promise<GroupReport> {
  const slab = await native.inspectSlab(store.directory, group)
  try {
    return reportOf(group, slab)
  } finally {
    await native.close(slab.storage)
  }
}

const GROUP_COLUMNS = [
  { title: 'GROUP', align: 'right' },
  { title: 'SLOTS', align: 'right' },
  { title: 'USED', align: 'right' },
  { title: 'BYTES', align: 'right' },
  { title: 'BLOCK', align: 'right' },
  { title: 'TOKENS', align: 'right' },
  { title: 'DEEPEST', align: 'right' },
  { title: 'REJECTED', align: 'right' },
  { title: 'SUPERSEDED', align: 'right' },
  { title: 'ORPHANED', align: 'right' },
] as const

function groupRow(report: GroupReport | GroupFailure): string[] {
  if ('error' in report) return [String(report.group), report.error.code]
  return [
    String(report.group),
    formatCount(report.slots),
    formatCount(report.used),
    formatBytes(report.usedBytes),
    formatBytes(report.blockBytes),
    formatCount(report.tokensPerBlock),
    formatCount(report.deepestChain),
    formatCount(report.recordsRejected),
    formatCount(report.recordsSuperseded),
    formatCount(report.recordsOrphaned),
  ]
}

function storeText(store: StoreReport<GroupReport>): string {
  const lines = [`store ${printable(store.fingerprint)}\n`, `  ${printable(store.directory)}\n\n`]
  lines.push(renderTable(GROUP_COLUMNS, store.groups.map(groupRow)))
  for (const report of store.groups) {
    if ('error' in report) {
      lines.push(`\ngroup ${report.group}: ${failureText(report)}\n`)
      continue
    }
    if (report.slotsMissing > 0) lines.push(`\ngroup ${report.group}: ${cutText(report.slots, report.slotsMissing)}\n`)
    if (report.recordsUnreadable > 0) {
      lines.push(`\ngroup ${report.group}: ${unreadableText(report.recordsUnreadable)}\n`)
    }
    if (report.used > 0) {
      lines.push(`\ngroup ${report.group}: used ${formatTime(report.oldestUseS)} to ${formatTime(report.newestUseS)}\n`)
      const rows = report.tenants.map((tenant) => [tenant.tag, formatCount(tenant.blocks)])
      lines.push(renderTable([{ title: 'TENANT' }, { title: 'BLOCKS', align: 'right' }], rows))
    }
  }
  return lines.join('')
}

async function run(context: VerbContext): Promise<VerbResult> {
  const directory = resolve(context.cwd, context.operands[0] ?? '.')
  const found = await findStores(directory)
  const native = await context.native()
  const { stores, read, unread } = await reportStores(found, context.signal, (store, group) =>
    inspectGroup(native, store, group),
  )
  const isBroken = read.some((report) => report.slotsMissing > 0 || report.recordsUnreadable > 0)
  return {
    json: { directory, stores },
    text: stores.map(storeText).join('\n'),
    exitCode: isBroken || unread > 0 ? 1 : 0,
  }
}

/** The verb. */
export const inspect: Verb = defineVerb({
  name: 'inspect',
  summary: 'list the stores of a disk tier and what they hold',
  usage: 'DIR',
  details:
    'DIR is the directory of a disk tier or of one store in it. For every layer group: slots and how many are used, bytes, ' +
    'tokens a block, the deepest chain of blocks, records that do not count (rejected: their own hash is wrong; superseded: ' +
    'a newer record of the same block exists; orphaned: a block before them is gone), tenants by tag, and times of use. ' +
    'Reads tables only, never payloads, and works while another process has the store open. The exit code is 1 when a ' +
    'table, or a part of it, cannot be read.',
  operands: { least: 1, most: 1 },
  options: {},
  run,
})
