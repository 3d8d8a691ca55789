/**
 * The command without its process: takes a command line and a world, prints, and returns an exit code. Nothing goes to
 * stdout unless the verb succeeded.
 */
import { isKvError, suggestion } from '../errors.js'
import { parseVerbArgs } from './args.js'
import type { CliContext, Verb } from './context.js'
import { printable } from './format.js'
import { overallHelp, verbHelp } from './help.js'
import { usageError, type ValuesOf } from './option-kinds.js'
import { VERBS } from './verbs.js'

/** Exit codes of the command. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** What `main` needs besides the world. */
export interface MainOptions {
  /** The command line without node and script. */
  readonly args: readonly string[]
  /** The package's version. */
  readonly version: string
  /** Default: every verb there is. */
  readonly verbs?: readonly Verb[]
}

/** Where an unexpected error came from, so that a report of it is of use. */
function originOf(error: Error): string {
  const frame = error.stack?.split('\n').find((line) => /^\s+at /.test(line))
  return frame === undefined ? '' : ` ${frame.trim()}`
}

/** A message on one line: a loader's message may have several. */
function oneLine(message: string): string {
  return printable(message.trim().replaceAll(/\s*\n\s*/g, ' '))
}

/** One or two lines about a failure. */
function describe(error: unknown, verb: string | undefined): string {
  const command = verb === undefined ? 'kvtier' : `kvtier ${verb}`
  if (isKvError(error)) {
    const help = isKvError(error, 'ERR_KV_USAGE') ? `\n'${command} --help' says what it takes.` : ''
    return `${command}: ${oneLine(error.message)} (${error.code})${help}\n`
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}${originOf(error)}` : String(error)
  return `${command}: ${oneLine(what)} (ERR_KV_INTERNAL)\nThis is a fault of kvtier; please report it with the command.\n`
}

function namesOf(verbs: readonly Verb[]): string[] {
  return verbs.map((verb) => verb.name)
}

function findVerb(verbs: readonly Verb[], name: string): Verb {
  const verb = verbs.find((each) => each.name === name)
  if (verb !== undefined) return verb
  const names = namesOf(verbs)
  const what = name.startsWith('-') ? 'option' : 'verb'
  const near = what === 'verb' ? suggestion(name, names) : ''
  return usageError(`There is no ${what} ${JSON.stringify(name)}.${near} The verbs are ${names.join(', ')}.`)
}

async function runVerb(verb: Verb, args: readonly string[], context: CliContext): Promise<number> {
  const parsed = parseVerbArgs(verb, args)
  if (parsed.help) {
    context.stdout.write(verbHelp(verb, context.columns))
    return EXIT.done
  }
  const result = await verb.run({
    ...context,
    values: parsed.values as ValuesOf<Verb['options']>,
    operands: parsed.operands,
    json: parsed.json,
  })
  context.stdout.write(parsed.json ? `${JSON.stringify(result.json, null, 2)}\n` : result.text)
  return result.exitCode ?? EXIT.done
}

/**
 * Runs one command line.
 *
 * @returns the exit code: 0 done, 1 failed, 2 a wrong command line, 130 interrupted. Never rejects.
 */
export async function main(options: MainOptions, context: CliContext): Promise<number> {
  const verbs = options.verbs ?? VERBS
  // `kvtier --json doctor` means `kvtier doctor --json`.
  const leading = Math.max(
    0,
    options.args.findIndex((arg) => arg !== '--json'),
  )
  const [first, ...rest] = [...options.args.slice(leading), ...options.args.slice(0, leading)]
  let name: string | undefined
  try {
    if (first === '--json') {
      usageError(`--json needs a verb, for example: kvtier doctor --json. The verbs are ${namesOf(verbs).join(', ')}.`)
    }
    if (first === undefined || first === '--help' || first === '-h' || (first === 'help' && rest.length === 0)) {
      context.stdout.write(overallHelp(verbs, context.columns))
      return EXIT.done
    }
    if (first === '--version' || first === '-V') {
      context.stdout.write(`${options.version}\n`)
      return EXIT.done
    }
    if (first === 'help') {
      context.stdout.write(verbHelp(findVerb(verbs, rest[0] ?? ''), context.columns))
      return EXIT.done
    }
    const verb = findVerb(verbs, first)
    name = verb.name
    return await runVerb(verb, rest, context)
  } catch (error) {
    if (context.signal.aborted) {
      context.stderr.write(`kvtier${name === undefined ? '' : ` ${name}`}: interrupted (ERR_KV_ABORTED)\n`)
      return EXIT.interrupted
    }
    context.stderr.write(describe(error, name))
    return isKvError(error, 'ERR_KV_USAGE') ? EXIT.usage : EXIT.failed
  }
}
