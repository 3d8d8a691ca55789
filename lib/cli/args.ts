/**
 * Reads a verb's command line: over node:util's parseArgs for the grammar, with our own words when something is wrong, so
 * that an error names the option and the nearest one that exists.
 */
import { parseArgs } from 'node:util'
import { suggestion } from '../errors.js'
import type { Verb } from './context.js'
import { type OptionSpecs, parseValue, type Share, usageError } from './option-kinds.js'

/** What a verb's command line says. */
export interface ParsedArgs {
  /** `--help` or `-h` is there; nothing else was checked. */
  readonly help: boolean
  readonly json: boolean
  readonly values: Readonly<Record<string, boolean | string | number | Share | undefined>>
  readonly operands: readonly string[]
}

/** Options that every verb has. */
export const COMMON_OPTIONS: OptionSpecs = {
  json: { kind: 'flag', help: 'print the result as JSON' },
  help: { kind: 'flag', help: 'say what this verb does and which options it has' },
}

interface OptionToken {
  readonly kind: 'option'
  readonly name: string
  readonly rawName: string
  readonly value: string | undefined
  readonly inlineValue: boolean | undefined
}

function readOption(token: OptionToken, specs: OptionSpecs): boolean | string | number | Share {
  const spec = Object.hasOwn(specs, token.name) ? specs[token.name] : undefined
  if (spec === undefined || !token.rawName.startsWith('--')) {
    const names = Object.keys(specs)
    return usageError(`There is no option ${token.rawName}.${suggestion(token.name, names, '--')}`)
  }
  if (spec.kind === 'flag') {
    if (token.value === undefined) return true
    return usageError(`${token.rawName} takes no value, but ${JSON.stringify(token.value)} was given.`)
  }
  const swallowed = token.inlineValue !== true && token.value?.startsWith('-') === true
  if (token.value === undefined || swallowed) {
    return usageError(`${token.rawName} needs a value: ${token.rawName} ${spec.placeholder}.`)
  }
  return parseValue(token.rawName, spec, token.value)
}

function operandsError(verb: Verb, count: number): never {
  const { least, most } = verb.operands
  const range = least === 0 ? `at most ${most}` : `${least} to ${most}`
  const wanted = least === most ? `${most}` : range
  return usageError(
    `${verb.name} takes ${wanted} operand${most === 1 ? '' : 's'}, but ${count} ` +
      `${count === 1 ? 'was' : 'were'} given: kvtier ${verb.name} ${verb.usage}.`,
  )
}

/**
 * Reads what follows a verb's name.
 *
 * @throws KvError ERR_KV_USAGE
 */
export function parseVerbArgs(verb: Verb, args: readonly string[]): ParsedArgs {
  const specs: OptionSpecs = { ...COMMON_OPTIONS, ...verb.options }
  const types = Object.entries(specs).map(([name, spec]) => {
    const type: 'boolean' | 'string' = spec.kind === 'flag' ? 'boolean' : 'string'
    return [name, { type, ...(name === 'help' ? { short: 'h' } : {}) }] as const
  })
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(types),
    strict: false,
    allowPositionals: true,
    tokens: true,
  })

  const values: Record<string, boolean | string | number | Share> = {}
  const operands: string[] = []
  const help = tokens.some((token) => token.kind === 'option' && token.name === 'help')
  if (help) return { help, json: false, values, operands }
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind !== 'option') continue
    const value = readOption(token, specs)
    if (Object.hasOwn(values, token.name)) usageError(`${token.rawName} is given twice.`)
    values[token.name] = value
  }
  for (const [name, spec] of Object.entries(specs)) {
    if (spec.kind === 'flag') values[name] ??= false
    else if (spec.required === true && values[name] === undefined) {
      usageError(`${verb.name} needs --${name} ${spec.placeholder} (${spec.help}).`)
    }
  }
  if (operands.length < verb.operands.least || operands.length > verb.operands.most) {
    operandsError(verb, operands.length)
  }
  return { help, json: values.json === true, values, operands }
}
