/** `kvtier doctor`: what this machine offers to kvtier, what it lacks, and what each lack costs. */
import { resolve } from 'node:path'

import { connectorsText, findConnectors } from './connectors.js'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { type Finding, findingsOf } from './findings.js'
import { gpuCopiesText } from './gpu-copies.js'
import type { CliNative, MeasuredGpu } from './native-access.js'
import { type Progress, startProgress } from './progress.js'
import { renderTable, wrapText } from './table.js'

const NARROWEST = 40

function textOf(findings: readonly Finding[], columns: number): string {
  const rows = findings.map((finding) => [finding.ok ? 'yes' : 'no', finding.name, finding.state])
  const table = renderTable([{ title: 'OK' }, { title: 'WHAT' }, { title: 'STATE' }], rows)
  const lacks = findings.filter((finding) => !finding.ok)
  if (lacks.length === 0) return `${table}\nNothing is missing.\n`
  const width = Math.max(NARROWEST, Math.min(columns, 100))
  const notes = lacks.map(
    (finding) =>
      `\n${finding.name}\n${wrapText(`costs: ${finding.cost}`, width, '  ')}` +
      wrapText(`remedy: ${finding.remedy}`, width, '  '),
  )
  return `${table}\nkvtier works without what is missing:\n${notes.join('')}`
}

const OPTIONS = {
  recalibrate: { kind: 'flag', help: "measure every GPU's copies anew, and keep what managers choose by" },
} as const

type DoctorContext = VerbContext<typeof OPTIONS>

/** Null where nothing is to be measured. */
async function measure(context: DoctorContext, native: CliNative): Promise<MeasuredGpu[] | null> {
  if (!context.values.recalibrate) return null
  let progress: Progress | undefined
  try {
    return await native.measureCopies((ordinal, count) => {
      context.signal.throwIfAborted()
      progress ??= startProgress(context, 'measuring GPUs', count)
      progress.update(ordinal)
    })
  } finally {
    progress?.end()
  }
}

async function run(context: DoctorContext): Promise<VerbResult> {
  const directory = resolve(context.cwd, context.operands[0] ?? '.')
  const native = await context.native()
  const machine = await native.probe(directory)
  const findings = findingsOf(machine)
  const connectors = await findConnectors(context.cwd)
  const copies = await measure(context, native)
  const memlockBytes = Number.isSafeInteger(machine.memory.memlockBytes) ? machine.memory.memlockBytes : null
  return {
    json: {
      directory,
      findings,
      connectors,
      machine: { ...machine, memory: { ...machine.memory, memlockBytes } },
      ...(copies === null ? {} : { copies }),
    },
    text:
      textOf(findings, context.columns) + connectorsText(connectors) + (copies === null ? '' : gpuCopiesText(copies)),
    exitCode: copies?.some(({ failure }) => failure !== null) ? 1 : 0,
  }
}

/** The verb. */
export const doctor: Verb = defineVerb({
  name: 'doctor',
  summary: 'say what this machine offers to kvtier and what it lacks',
  usage: '[DIR]',
  details:
    'Looks for CUDA, cuFile, io_uring, O_DIRECT, huge pages, NUMA, the limit of locked memory and SHA-256, and says what ' +
    'each lack costs and what to do about it. DIR is where the disk tier is to be (default: the current directory); ' +
    'nothing stays in it. Lists the connectors, and the version of each engine that a program in the current ' +
    'directory has. The exit code is 0 whatever is missing. In JSON, memlockBytes is null where there is no limit. ' +
    'With --recalibrate it also measures the ways to copy between each GPU and host memory, which a block manager does ' +
    'when it first uses a GPU, and keeps the result in the cache folder of the user. A GPU that cannot be measured does ' +
    'not stop the others; the exit code is 1 then.',
  operands: { least: 0, most: 1 },
  options: OPTIONS,
  run,
})
