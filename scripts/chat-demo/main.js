/**
 * `npm run demo:chat`: many users share a server that has one sequence. The same turns are served by node-llama-cpp (a) with
 * the sequence reset at each request, (b) with its own reuse of what the sequence still has, and (c) with kvtier behind
 * it. Each server is killed with SIGKILL before the last turn and started again. In a fresh clone it builds kvtier, installs
 * node-llama-cpp into test/engine/node_modules (100 MB) and makes a model with random weights (5 MB).
 *
 * --users N      how many users, 2 to 64 (default: 8)
 * --turns N      turns of each, 2 to 16, the last one after the kill (default: 4)
 * --model PATH   a GGUF file instead of the made model
 * --batch N      tokens that the engine computes at a time (default: 1, which makes answers comparable bit by bit)
 * --json         prints one object instead of the table
 * --help         prints these lines
 *
 * Ends with 0 when all answers are identical; 1 when one is not, or something failed; 2 for a wrong command line; 3 where
 * this machine cannot have node-llama-cpp.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { helpText, readOptions, UsageError } from './options.js'
import { PrepareError, prepare } from './prepare.js'
import { Progress } from './progress.js'
import { renderResult, resultOf } from './report.js'
import { MODES, runServer } from './run.js'

/** @typedef {import('./server-process.js').ServerProcess} ServerProcess */

const CHARACTERS = { system: 1024, message: 120, answer: 32 }
/** Characters that a token of a real model has, about; one of the made model has one. */
const PER_TOKEN = 4

/** @param {string} path @returns {Promise<unknown>} a module of the built kvtier */
async function built(path) {
  return await import(new URL(`../../dist/${path}`, import.meta.url).href)
}

/** @param {import('./options.js').Options} options @param {Progress} progress */
async function demo({ users, turns, batch, model, json }, progress) {
  const file = prepare(model, (text) => progress.step(text))
  const scale = model === null ? 1 : PER_TOKEN
  const sizes = {
    users,
    turns,
    system: CHARACTERS.system * scale,
    message: CHARACTERS.message * scale,
    answer: CHARACTERS.answer,
  }
  const directory = mkdtempSync(join(tmpdir(), 'kvtier-chat-demo-'))
  /** @type {ServerProcess[]} */
  const started = []
  const stop = async () => {
    await Promise.all(started.map((server) => server.kill()))
    rmSync(directory, { recursive: true, force: true })
  }
  const interrupted = async (/** @type {NodeJS.Signals} */ signal) => {
    progress.end()
    await stop()
    process.exit(signal === 'SIGINT' ? 130 : 143)
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  try {
    const runs = []
    for (const mode of /** @type {(keyof typeof MODES)[]} */ (Object.keys(MODES))) {
      const where = { model: file, batch, directory: join(directory, 'kv') }
      runs.push(await runServer(mode, where, sizes, progress, (server) => started.push(server)))
    }
    progress.end()
    const result = resultOf(runs, { users, turns, batch, model: file })
    if (json) {
      console.log(JSON.stringify(result, null, 2))
    } else {
      const table = /** @type {typeof import('../../lib/cli/table.ts')} */ (await built('cli/table.js'))
      const format = /** @type {typeof import('../../lib/cli/format.ts')} */ (await built('cli/format.js'))
      process.stdout.write(renderResult(result, table, format))
    }
    if (!result.identical || result.failures.length > 0) process.exitCode = 1
  } finally {
    progress.end()
    await stop()
  }
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options.help) console.log(helpText())
  else await demo(options, new Progress())
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : error instanceof PrepareError ? error.exitCode : 1
}
