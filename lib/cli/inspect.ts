/** `kvtier inspect`: what the stores of a disk tier hold, from their tables alone. */
import { resolve } from 'node:path'

import { isKvError, type KvError } from '../errors.js'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { formatBytes, formatCount, formatTime, printable } from './format.js'
import type { CliNative, InspectedSlab } from './native-access.js'
import { type FoundStore, findStores } from './stores.js'
import { renderTable } from './table.js'

/** What one layer group's table says. */
interface GroupReport {
  readonly group: number
  readonly slots: number
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
  /** Blocks in the longest sequence. */
  readonly deepestChain: number
  readonly tenants: readonly { readonly tag: string; readonly blocks: number }[]
  /** Unix seconds; 0 = unknown. */
  readonly oldestUseS: number
  readonly newestUseS: number
}

/** A table that could not be read. */
interface GroupFailure {
  readonly group: number
  readonly error: { readonly code: string; readonly message: string }
}

interface StoreReport {
  readonly fingerprint: string
  readonly directory: string
  readonly groups: readonly (GroupReport | GroupFailure)[]
}

const SLOT_ALIGNMENT_BYTES = 4096

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
  const blockBytes = shape.parts * shape.layers * shape.outer * shape.tokensPerBlock * shape.bytesPerToken
  const slotBytes = Math.ceil(blockBytes / SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES
  const used = contents.slots.length
  return {
    group,
    slots: slotCount,
    used,
    ...shape,
    blockBytes,
    usedBytes: used * blockBytes,
    capacityBytes: slotCount * slotBytes,
    recordsRejected: contents.recordsRejected,
    recordsSuperseded: contents.recordsSuperseded,
    recordsOrphaned: contents.recordsOrphaned,
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

function storeText(store: StoreReport): string {
  const lines = [`store ${printable(store.fingerprint)}\n`, `  ${printable(store.directory)}\n\n`]
  lines.push(renderTable(GROUP_COLUMNS, store.groups.map(groupRow)))
  for (const report of store.groups) {
    if ('error' in report) {
      lines.push(`\ngroup ${report.group}: ${printable(report.error.message)} (${report.error.code})\n`)
    } else if (report.used > 0) {
      lines.push(`\ngroup ${report.group}: used ${formatTime(report.oldestUseS)} to ${formatTime(report.newestUseS)}\n`)
      const rows = report.tenants.map((tenant) => [tenant.tag, formatCount(tenant.blocks)])
      lines.push(renderTable([{ title: 'TENANT' }, { title: 'BLOCKS', align: 'right' }], rows))
    }
  }
  return lines.join('')
}

async function run(context: VerbContext): Promise<VerbResult> {
  const directory = resolve(context.cwd, context.operands[0] ?? '.')
  const stores = await findStores(directory)
  const native = await context.native()
  const reports: StoreReport[] = []
  const failures: KvError[] = []
  let readable = 0
  for (const store of stores) {
    const groups: (GroupReport | GroupFailure)[] = []
    for (const group of store.groups) {
      context.signal.throwIfAborted()
      try {
        groups.push(await inspectGroup(native, store, group))
        ++readable
      } catch (error) {
        if (!isKvError(error)) throw error
        failures.push(error)
        groups.push({ group, error: { code: error.code, message: error.message } })
      }
    }
    reports.push({ fingerprint: store.fingerprint, directory: store.directory, groups })
  }
  // Some tables readable: a report with a bad row. None: an error like any other.
  const [failure] = failures
  if (readable === 0 && failure !== undefined) throw failure
  return {
    json: { directory, stores: reports },
    text: reports.map(storeText).join('\n'),
    exitCode: failures.length === 0 ? 0 : 1,
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
    'table cannot be read.',
  operands: { least: 1, most: 1 },
  options: {},
  run,
})
