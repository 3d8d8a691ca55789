/** What `--help` prints. Pure functions. */
import { COMMON_OPTIONS } from './args.js'
import type { Verb } from './context.js'
import type { OptionSpec, OptionSpecs } from './option-kinds.js'
import { renderTable, wrapText } from './table.js'

const WIDEST = 100

function indented(table: string): string {
  return table.replace(/^(?=.)/gm, '  ')
}

function optionLabel(name: string, spec: OptionSpec): string {
  const short = name === 'help' ? '-h, ' : ''
  return spec.kind === 'flag' ? `${short}--${name}` : `--${name} ${spec.placeholder}`
}

function optionRows(specs: OptionSpecs): string[][] {
  return Object.entries(specs).map(([name, spec]) => {
    const choices = spec.kind === 'choice' ? `: ${spec.choices.join(', ')}` : ''
    return [optionLabel(name, spec), `${spec.help}${choices}`]
  })
}

/** A table without its heading line. */
function list(rows: readonly (readonly string[])[]): string {
  const [, ...lines] = renderTable([{ title: '' }, { title: '' }], rows).split(/(?<=\n)/)
  return indented(lines.join(''))
}

/** Help of the whole command. */
export function overallHelp(verbs: readonly Verb[], columns: number): string {
  const about =
    'Keeps the KV cache of large language models beyond GPU memory. The verbs show how it works, look at a machine and at disk tiers, and replay recorded traffic.'
  return (
    'Usage: kvtier VERB [OPTION]...\n\n' +
    `${wrapText(about, Math.min(columns, WIDEST))}\nVerbs:\n` +
    list(verbs.map((verb) => [verb.name, verb.summary])) +
    '\nOptions:\n' +
    list([...optionRows(COMMON_OPTIONS), ['-V, --version', 'print the version']]) +
    "\n'kvtier VERB --help' says more about a verb. Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted.\n"
  )
}

/** Help of one verb. */
export function verbHelp(verb: Verb, columns: number): string {
  const usage = `Usage: kvtier ${verb.name} ${verb.usage} [OPTION]...`.replaceAll(/ +/g, ' ')
  return (
    `${usage}\n\n${wrapText(verb.details, Math.min(columns, WIDEST))}\nOptions:\n` +
    list(optionRows({ ...verb.options, ...COMMON_OPTIONS }))
  )
}
