/** `kvtier doctor`: what this machine offers to kvtier, what it lacks, and what each lack costs. */
import { resolve } from 'node:path'

import { defineVerb, type Verb, type VerbContext, type VerbResult } from './context.js'
import { type Finding, findingsOf } from './findings.js'
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

async function run(context: VerbContext): Promise<VerbResult> {
  const directory = resolve(context.cwd, context.operands[0] ?? '.')
  const native = await context.native()
  const machine = await native.probe(directory)
  const findings = findingsOf(machine)
  const memlockBytes = Number.isSafeInteger(machine.memory.memlockBytes) ? machine.memory.memlockBytes : null
  return {
    json: { directory, findings, machine: { ...machine, memory: { ...machine.memory, memlockBytes } } },
    text: textOf(findings, context.columns),
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
    'nothing stays in it. The exit code is 0 whatever is missing. In JSON, memlockBytes is null where there is no limit.',
  operands: { least: 0, most: 1 },
  options: {},
  run,
})
