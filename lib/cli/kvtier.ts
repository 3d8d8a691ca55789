#!/usr/bin/env node
/** The `kvtier` command: gives `main` this process's streams, clock and signals, and the process its exit code. */
import { readFileSync } from 'node:fs'

import { KvError } from '../errors.js'
import type { TextSink } from './context.js'
import { EXIT, main } from './main.js'
import { openNative } from './native-access.js'

const DEFAULT_COLUMNS = 80

/** A stream whose reader may go away: `kvtier inspect DIR | head` ends quietly. */
function sink(stream: NodeJS.WriteStream): TextSink {
  let isOpen = true
  stream.on('error', (error: NodeJS.ErrnoException) => {
    isOpen = false
    if (error.code !== 'EPIPE') process.exitCode = EXIT.failed
  })
  return {
    write: (text) => {
      if (isOpen) stream.write(text)
    },
  }
}

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

/** The first interrupt asks the verb to stop; the second does not wait for it. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(EXIT.interrupted)
      controller.abort(new KvError('ERR_KV_ABORTED', `The command was ended by ${name}.`))
    })
  }
  return controller.signal
}

const exitCode = await main(
  { args: process.argv.slice(2), version: packageVersion() },
  {
    stdout: sink(process.stdout),
    stderr: sink(process.stderr),
    isTty: process.stderr.isTTY === true,
    columns: process.stderr.columns || process.stdout.columns || DEFAULT_COLUMNS,
    now: () => performance.now(),
    signal: interruptSignal(),
    cwd: process.cwd(),
    native: openNative,
  },
)
process.exitCode ??= exitCode
