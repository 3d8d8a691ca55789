/** What `kvtier doctor --recalibrate` says about a GPU's copies. Pure functions. */
import { formatBytes, formatCount, formatRate, printable } from './format.js'
import type { MeasuredCopy, MeasuredGpu } from './native-access.js'
import { renderTable } from './table.js'

const COLUMNS = [
  { title: 'COPIES' },
  { title: 'OF', align: 'right' },
  { title: 'RUNS', align: 'right' },
  { title: 'BEST' },
  { title: 'RATE', align: 'right' },
  { title: 'SINGLE', align: 'right' },
] as const

/** The fastest way for each direction, size and number of runs. */
function bestCopies(copies: readonly MeasuredCopy[]): MeasuredCopy[] {
  const best = new Map<string, MeasuredCopy>()
  for (const copy of copies) {
    const cell = `${copy.direction} ${copy.runBytes} ${copy.runs}`
    const before = best.get(cell)
    if (before === undefined || copy.gbPerS > before.gbPerS) best.set(cell, copy)
  }
  return [...best.values()]
}

function rowOf(best: MeasuredCopy, copies: readonly MeasuredCopy[]): string[] {
  const single = copies.find(
    ({ strategy, direction, runBytes, runs }) =>
      strategy === 'single' && direction === best.direction && runBytes === best.runBytes && runs === best.runs,
  )
  return [
    best.direction,
    formatBytes(best.runBytes),
    formatCount(best.runs),
    best.strategy,
    formatRate(best.gbPerS * 1e9),
    single === undefined ? '-' : formatRate(single.gbPerS * 1e9),
  ]
}

/** A table for each GPU, or why there is none. */
export function gpuCopiesText(gpus: readonly MeasuredGpu[]): string {
  if (gpus.length === 0) return '\nThere is no GPU whose copies could be measured.\n'
  return gpus
    .map(({ ordinal, name, kept, copies, failure }) => {
      if (failure !== null) return `\nGPU ${ordinal}, ${printable(name)}\nNot measured: ${printable(failure)}\n`
      const rows = bestCopies(copies).map((best) => rowOf(best, copies))
      const note = kept ? '' : 'Not kept: the cache folder cannot be written; see XDG_CACHE_HOME.\n'
      return `\nGPU ${ordinal}, ${printable(name)}\n${renderTable(COLUMNS, rows)}${note}`
    })
    .join('')
}
