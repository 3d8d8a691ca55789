/**
 * The command line of `npm run bench`, as a verb of lib/cli: options, the loop over the groups, and the report.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineVerb, type Verb, type VerbContext, type VerbResult } from '../../lib/cli/context.js'
import { usageError } from '../../lib/cli/option-kinds.js'
import { startProgress } from '../../lib/cli/progress.js'
import { suggestion } from '../../lib/errors.js'
import { loadLimits } from './limits.js'
import { loadNow, machineOf, sourcesOf } from './machine.js'
import { isSimulated, type Report, reportText, type SkippedGroup } from './report.js'
import { runGroup } from './rounds.js'
import { type BenchContext, type BenchResult, DEFAULT_SUITES, type GroupSpec, SUITES, type SuiteName } from './types.js'

/** Rounds with --quick. */
const QUICK_ROUNDS = 2

const OPTIONS = {
  suite: {
    kind: 'text',
    placeholder: 'NAME',
    help: `only these, with commas or repeated: ${SUITES.join(', ')} (default: ${DEFAULT_SUITES.join(', ')})`,
  },
  only: { kind: 'text', placeholder: 'TEXT', help: 'only groups of benchmarks whose names contain this' },
  rounds: { kind: 'count', placeholder: 'N', help: 'rounds of every benchmark (default: 5 to 11, by benchmark)' },
  quick: { kind: 'flag', help: `${QUICK_ROUNDS} rounds, and few of the sizes where there are many` },
  directory: {
    kind: 'text',
    placeholder: 'DIR',
    help: 'measure the disk of this directory, in a temporary directory (default: in the build folder)',
  },
} as const

/** `--suite a --suite b` becomes `--suite a,b`: the parser takes every option once. */
export function joinSuites(args: readonly string[]): string[] {
  const suites: string[] = []
  const rest: string[] = []
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? ''
    const next = args[i + 1]
    if (arg.startsWith('--suite=')) suites.push(arg.slice('--suite='.length))
    else if (arg === '--suite' && next !== undefined && !next.startsWith('-')) {
      suites.push(next)
      i++
    } else rest.push(arg)
  }
  return suites.length === 0 ? rest : ['--suite', suites.join(','), ...rest]
}

/**
 * The suites that `--suite` names, in their own order.
 *
 * @throws KvError ERR_KV_USAGE
 */
export function parseSuites(text: string | undefined): SuiteName[] {
  if (text === undefined) return [...DEFAULT_SUITES]
  const names = text.split(',').map((name) => name.trim())
  for (const name of names) {
    if (SUITES.some((suite) => suite === name)) continue
    usageError(
      `There is no suite ${JSON.stringify(name)}.${suggestion(name, SUITES)} The suites are ${SUITES.join(', ')}.`,
    )
  }
  return SUITES.filter((suite) => names.includes(suite))
}

/** The build folder that this file was compiled into. */
const buildFolder = fileURLToPath(new URL('../../../', import.meta.url))

async function measureAll(
  context: VerbContext<typeof OPTIONS>,
  specs: readonly GroupSpec[],
  bench: BenchContext,
): Promise<{ results: BenchResult[]; skipped: SkippedGroup[] }> {
  const results: BenchResult[] = []
  const skipped: SkippedGroup[] = []
  for (const spec of specs) {
    context.signal.throwIfAborted()
    const rounds = context.values.rounds ?? (bench.quick ? QUICK_ROUNDS : spec.rounds)
    const progress = startProgress(context, `${spec.suite}: ${spec.name}, rounds`, rounds + 1)
    try {
      progress.update(0)
      const group = await spec.open(bench)
      if ('skipped' in group) {
        skipped.push({ suite: spec.suite, name: spec.name, reason: group.skipped })
        continue
      }
      try {
        const onRound = (done: number): void => {
          context.signal.throwIfAborted()
          progress.update(done)
        }
        results.push(...(await runGroup(spec.suite, group, rounds, onRound)))
      } finally {
        await group.close()
      }
    } finally {
      progress.end()
    }
  }
  return { results, skipped }
}

/** The verb over a catalog of groups. */
export function benchVerb(catalog: readonly GroupSpec[]): Verb {
  async function run(context: VerbContext<typeof OPTIONS>): Promise<VerbResult> {
    const suites = parseSuites(context.values.suite)
    const machine = machineOf()
    const limits = loadLimits()
    const parent = context.values.directory === undefined ? buildFolder : resolve(context.cwd, context.values.directory)
    mkdirSync(parent, { recursive: true })
    const directory = mkdtempSync(join(parent, 'bench-'))
    const before = loadNow()
    const started = context.now()
    try {
      const bench: BenchContext = {
        limits,
        directory,
        cores: machine.cores,
        engineThreads: Math.min(8, Math.max(2, 2 * machine.cores)),
        copyThreads: Math.max(1, machine.cores - 1),
        quick: context.values.quick,
        signal: context.signal,
      }
      const only = context.values.only ?? ''
      const specs = catalog.filter((spec) => suites.includes(spec.suite) && spec.name.includes(only))
      if (specs.length === 0) usageError(`No group of benchmarks has a name with ${JSON.stringify(only)} in it.`)
      const { results, skipped } = await measureAll(context, specs, bench)
      const report: Report = {
        ...sourcesOf(buildFolder),
        date: new Date().toISOString(),
        machine,
        load: { before, after: loadNow() },
        simulated: isSimulated(results),
        seconds: (context.now() - started) / 1000,
        results,
        skipped,
      }
      return { json: report, text: reportText(report) }
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }

  return defineVerb({
    name: 'bench',
    summary: 'measure against the limits of this machine',
    usage: '',
    details:
      'Every number is a ratio to a limit measured in the same run, in turns: of values the share of the limit, of costs ' +
      'how many times the limit. Wall times of a busy machine mean little, so look at the ratios and their spread. ' +
      'With --json standard output holds one JSON object and nothing else.',
    operands: { least: 0, most: 0 },
    options: OPTIONS,
    run,
  })
}
