/**
 * The demo's command line.
 */
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/** A command line that cannot be run; the message says what was asked and what there is. */
export class UsageError extends Error {}

/**
 * `model`: a GGUF file, or null for the made one. `batch`: tokens that the engine computes at a time.
 *
 * @typedef {{ users: number, turns: number, batch: number, model: string | null, json: boolean, help: boolean }} Options
 */

/** @returns {string} the comment at the top of main.js, as help */
export function helpText() {
  const lines = readFileSync(fileURLToPath(new URL('main.js', import.meta.url)), 'utf8').split('\n')
  return lines
    .slice(1, lines.indexOf(' */'))
    .map((line) => line.replace(/^ \* ?/, ''))
    .join('\n')
}

/**
 * @param {string} name
 * @param {string | undefined} text
 * @param {number} standard
 * @param {number} least
 * @param {number} most
 * @returns {number}
 */
function wholeNumber(name, text, standard, least, most) {
  if (text === undefined) return standard
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number >= least && number <= most) return number
  throw new UsageError(`--${name} takes a whole number from ${least} to ${most}, not '${text}'.`)
}

/** @param {string | undefined} path @returns {string | null} */
function modelFile(path) {
  if (path === undefined) return null
  const file = resolve(path)
  if (statSync(file, { throwIfNoEntry: false })?.isFile()) return file
  throw new UsageError(`--model names no file: ${file}`)
}

/**
 * @param {readonly string[]} args
 * @returns {Options}
 * @throws UsageError
 */
export function readOptions(args) {
  /** @type {Record<string, { type: 'string' | 'boolean' }>} */
  const options = {
    users: { type: 'string' },
    turns: { type: 'string' },
    batch: { type: 'string' },
    model: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  }
  /** @type {Record<string, string | boolean | undefined>} */
  let values
  try {
    ;({ values } = /** @type {{ values: Record<string, string | boolean | undefined> }} */ (
      parseArgs({ args: [...args], options, allowPositionals: false })
    ))
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : error}\n--help says which options there are.`)
  }
  const text = (/** @type {string} */ name) => /** @type {string | undefined} */ (values[name])
  return {
    users: wholeNumber('users', text('users'), 8, 2, 64),
    turns: wholeNumber('turns', text('turns'), 4, 2, 16),
    batch: wholeNumber('batch', text('batch'), 1, 1, 2048),
    model: modelFile(text('model')),
    json: values.json === true,
    help: values.help === true,
  }
}
