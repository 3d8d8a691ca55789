/**
 * What a verb of the command is, and what it gets: its options, its operands, and the world (streams, clock, interrupt,
 * addon) handed in, so that tests drive a verb in their own process.
 */
import type { CliNative } from './native-access.js'
import type { OptionSpecs, ValuesOf } from './option-kinds.js'

/** A place that text goes to. */
export interface TextSink {
  write(text: string): void
}

/** The world of one run of the command. */
export interface CliContext {
  readonly stdout: TextSink
  readonly stderr: TextSink
  /** Whether stderr is a terminal: progress is shown only there. */
  readonly isTty: boolean
  /** Width of the terminal in characters. */
  readonly columns: number
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal
  /** The directory that relative paths start from. */
  readonly cwd: string
  /** The addon, loaded at the first call; `--help` and `--version` work without one. */
  readonly native: () => Promise<CliNative>
}

/** What one verb gets. */
export interface VerbContext<Specs extends OptionSpecs = OptionSpecs> extends CliContext {
  /** The verb's options, checked and converted. */
  readonly values: ValuesOf<Specs>
  /** What is left of the command line, as many as the verb's usage allows. */
  readonly operands: readonly string[]
  /** Whether the result will be printed as JSON. */
  readonly json: boolean
}

/** What a verb found out. `main` prints one of the two; nothing is printed when the verb fails. */
export interface VerbResult {
  /** Printed with `--json`; its shape is the verb's contract with scripts. */
  readonly json: unknown
  /** Printed otherwise; ends with a newline. */
  readonly text: string
  /** Default 0. */
  readonly exitCode?: number
}

/** One verb of the command. */
export interface Verb {
  readonly name: string
  /** One line for the list of verbs, without a full stop. */
  readonly summary: string
  /** What follows the verb's name: operands and required options. */
  readonly usage: string
  /** What `--help` says below the usage: sentences, and examples if they help. */
  readonly details: string
  readonly options: OptionSpecs
  /** How many operands it takes. */
  readonly operands: { readonly least: number; readonly most: number }
  run(context: VerbContext): Promise<VerbResult>
}

/** A verb whose `run` sees its own options typed. */
export interface TypedVerb<Specs extends OptionSpecs> extends Omit<Verb, 'options' | 'run'> {
  readonly options: Specs
  run(context: VerbContext<Specs>): Promise<VerbResult>
}

/** Forgets the option types, so that verbs of different options fit into one table. */
export function defineVerb<const Specs extends OptionSpecs>(verb: TypedVerb<Specs>): Verb {
  return verb as unknown as Verb
}
