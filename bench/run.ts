/** `npm run bench`: gives the benchmarks this process's streams, clock and signals. */

import type { CliContext } from '../lib/cli/context.js'
import { verbHelp } from '../lib/cli/help.js'
import { EXIT, main } from '../lib/cli/main.js'
import { openNative } from '../lib/cli/native-access.js'
import { KvError } from '../lib/errors.js'
import { CATALOG } from './catalog.js'
import { benchVerb, joinSuites } from './harness/command.js'

function interruptSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(EXIT.interrupted)
      controller.abort(new KvError('ERR_KV_ABORTED', `The benchmarks were ended by ${name}.`))
    })
  }
  return controller.signal
}

/** The verb is not one of the kvtier command: texts about it name what was really called. */
function asCalled(text: string): string {
  return text.replaceAll('kvtier bench --', 'npm run bench -- --').replaceAll('kvtier bench', 'npm run bench')
}

const verb = benchVerb(CATALOG)
const args = joinSuites(process.argv.slice(2))
const context: CliContext = {
  stdout: process.stdout,
  stderr: { write: (text) => process.stderr.write(asCalled(text)) },
  isTty: process.stderr.isTTY === true,
  columns: process.stderr.columns || process.stdout.columns || 80,
  now: () => performance.now(),
  signal: interruptSignal(),
  cwd: process.cwd(),
  native: openNative,
}

if (args.includes('--help') || args.includes('-h')) {
  process.stdout.write(asCalled(verbHelp(verb, context.columns)).replace('npm run bench', 'npm run bench --'))
} else {
  process.exitCode = await main({ args: ['bench', ...args], version: '', verbs: [verb] }, context)
}
