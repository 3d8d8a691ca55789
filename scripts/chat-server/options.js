/**
 * The example's command line.
 */
import { readFileSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/** A command line that cannot be run; the message says what was asked and what there is. */
export class UsageError extends Error {}

/**
 * `model`: a GGUF file, or null for the made one. `host` and `disk` in bytes.
 *
 * @typedef {{ address: string, port: number, model: string | null, sequences: number, context: number, directory: string,
 *   threads: number | null, host: number, disk: number, waiting: number, share: boolean, graceMs: number, help: boolean }} Options
 */

const MiB = 1024 * 1024

/** @returns {string} the comment at the top of main.js, as help */
export function helpText() {
  const lines = readFileSync(fileURLToPath(new URL('main.js', import.meta.url)), 'utf8').split('\n')
  return lines
    .slice(1, lines.indexOf(' */'))
    .map((line) => line.replace(/^ \* ?/, ''))
    .join('\n')
}

/** @param {string} name @param {string} text @param {number} least @param {number} most @returns {number} */
function wholeNumber(name, text, least, most) {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number >= least && number <= most) return number
  throw new UsageError(`--${name} takes a whole number from ${least} to ${most}, not '${text}'.`)
}

/** @param {readonly string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        address: { type: 'string', default: '127.0.0.1' },
        port: { type: 'string', default: '8080' },
        model: { type: 'string' },
        sequences: { type: 'string', default: '2' },
        context: { type: 'string', default: '4096' },
        threads: { type: 'string' },
        directory: { type: 'string', default: join(tmpdir(), 'kvtier-chat-server') },
        host: { type: 'string', default: '256' },
        disk: { type: 'string', default: '1024' },
        waiting: { type: 'string', default: '64' },
        grace: { type: 'string', default: '10' },
        share: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : error}\n--help says which options there are.`)
  }
}

/**
 * @param {readonly string[]} args
 * @returns {Options}
 * @throws UsageError
 */
export function readOptions(args) {
  const values = parse(args)
  const model = values.model === undefined ? null : resolve(values.model)
  if (model !== null && !statSync(model, { throwIfNoEntry: false })?.isFile()) {
    throw new UsageError(`--model names no file: ${model}`)
  }
  return {
    address: values.address,
    port: wholeNumber('port', values.port, 0, 65_535),
    model,
    sequences: wholeNumber('sequences', values.sequences, 1, 64),
    context: wholeNumber('context', values.context, 256, 1_048_576),
    threads: values.threads === undefined ? null : wholeNumber('threads', values.threads, 1, 1024),
    directory: resolve(values.directory),
    host: wholeNumber('host', values.host, 1, 1_048_576) * MiB,
    disk: wholeNumber('disk', values.disk, 1, 67_108_864) * MiB,
    waiting: wholeNumber('waiting', values.waiting, 0, 100_000),
    share: values.share,
    graceMs: wholeNumber('grace', values.grace, 0, 3600) * 1000,
    help: values.help,
  }
}
