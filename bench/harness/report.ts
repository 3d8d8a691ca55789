/** The report as JSON and as a table. Pure functions. */
import { formatBytes } from '../../lib/cli/format.js'
import { type Column, renderTable } from '../../lib/cli/table.js'
import type { Load, Machine, Sources } from './machine.js'
import type { BenchResult, SuiteName } from './types.js'

/** A group that was not measured. */
export interface SkippedGroup {
  readonly suite: SuiteName
  readonly name: string
  readonly reason: string
}

/** Everything that one run found out. */
export interface Report extends Sources {
  readonly date: string
  readonly machine: Machine
  readonly load: { readonly before: Load; readonly after: Load }
  readonly seconds: number
  /** Whether a GPU was the simulated driver's: such results say that bytes were right, and nothing of speed. */
  readonly simulated: boolean
  readonly results: readonly BenchResult[]
  readonly skipped: readonly SkippedGroup[]
}

const COLUMNS: readonly Column[] = [
  { title: 'SUITE' },
  { title: 'BENCHMARK' },
  { title: 'VALUE', align: 'right' },
  { title: 'LIMIT', align: 'right' },
  { title: 'UNIT' },
  { title: 'RATIO', align: 'right' },
  { title: 'P10-P90', align: 'right' },
  { title: 'AIM', align: 'right' },
  { title: '' },
  { title: 'THE LIMIT IS' },
]

/** Three significant digits, without an exponent. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (Math.abs(value) >= 1000) return String(Math.round(value))
  if (value === 0) return '0'
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toFixed(Math.min(digits, 6))
}

function aimOf(result: BenchResult): string {
  if (result.aim === null) return ''
  const unit = result.aim.of === 'value' ? ` ${result.unit}` : ''
  return `${result.better === 'higher' ? '>=' : '<='} ${formatNumber(result.aim.bound)}${unit}`
}

function cells(result: BenchResult): string[] {
  const { ratio, limit, met } = result
  return [
    result.suite,
    result.name,
    formatNumber(result.value),
    limit === null ? '' : formatNumber(limit.value),
    result.unit,
    ratio === null ? '' : `${formatNumber(ratio.median)} x`,
    ratio === null ? '' : `${formatNumber(ratio.p10)}-${formatNumber(ratio.p90)}`,
    aimOf(result),
    met === null ? '' : met ? 'ok' : 'missed',
    limit?.name ?? '',
  ]
}

function loadText(load: Load): string {
  const pressure = (share: number | null): string => (share === null ? 'unknown' : `${share} %`)
  return `load ${load.average}, waiting for processors ${pressure(load.cpuPressure)}, for disks ${pressure(load.ioPressure)}`
}

const SIMULATED =
  "simulated: the GPU is the simulated driver's. Its bytes were right; its times say nothing about a GPU."

/** Whether any of the results comes from the simulated driver. */
export function isSimulated(results: readonly BenchResult[]): boolean {
  return results.some((result) => result.parameters.simulated === true)
}

/** One line for all groups of a suite that were left out for the same reason. */
export function skippedLines(skipped: readonly SkippedGroup[]): string[] {
  const alike = new Map<string, SkippedGroup[]>()
  for (const group of skipped) {
    const key = `${group.suite}\n${group.reason}`
    alike.set(key, [...(alike.get(key) ?? []), group])
  }
  return [...alike.values()].flatMap(([first, ...others]) => {
    if (first === undefined) return []
    const more = others.length === 0 ? '' : ` and ${others.length} more`
    return [`skipped: ${first.suite}, ${first.name}${more}: ${first.reason}`]
  })
}

/** The report for a terminal. */
export function reportText(report: Report): string {
  const { machine, load, results } = report
  const id = report.commit?.slice(0, 12) ?? 'no commit'
  const commit = report.modified ? `${id} with changes` : id
  const aims = results.filter((result) => result.met !== null)
  const lines = [
    `${machine.cpu}, ${machine.cores} cores, ${formatBytes(machine.memoryBytes)}, kernel ${machine.kernel}, Node ${machine.node}, ${commit}`,
    `before: ${loadText(load.before)}; after: ${loadText(load.after)}`,
    'Ratio: of values, the share of the limit; of costs (an aim with <=), how many times the limit.',
    '',
    renderTable(COLUMNS, results.map(cells)),
    ...(report.simulated ? [SIMULATED] : []),
    ...skippedLines(report.skipped),
    `${aims.filter((result) => result.met).length} of ${aims.length} aims reached in ${Math.round(report.seconds)} s.`,
  ]
  return `${lines.join('\n')}\n`
}
