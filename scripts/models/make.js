/**
 * `node scripts/models/make.js NAME...`: makes models with random weights for tests and benchmarks, and prints their paths.
 * The bytes are the same on every machine. A model that is there already is not made again.
 *
 * NAME           tiny, mid, large, window, hybrid, or all of them: all
 * --dtype TYPE   f16 or q8_0 (default: q8_0 for large, f16 for the others)
 * --seed N       other weights (default: 1)
 * --force        makes it again
 * --json         prints one object a model: name, path, bytes, dtype, made, seconds
 * --help         prints these lines
 *
 * Files go to KVTIER_MODEL_CACHE, or to kvtier/models in the user's cache folder.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeModel } from './cache.js'
import { SHAPES } from './shapes.js'

/** @typedef {import('./cache.js').Dtype} Dtype */

/** @returns {string} the comment at the top of this file, and what the models are */
function helpText() {
  const lines = readFileSync(fileURLToPath(import.meta.url), 'utf8').split('\n')
  const usage = lines.slice(1, lines.indexOf(' */')).map((line) => line.replace(/^ \* ?/, ''))
  const models = Object.entries(SHAPES).map(([name, { about }]) => `  ${name.padEnd(7)} ${about}`)
  return [...usage, '', ...models].join('\n')
}

/** @param {string} name @returns {(written: number, size: number) => void} shows on a terminal how far it is */
function progressOf(name) {
  if (!process.stderr.isTTY) return () => {}
  let shown = -1
  return (written, size) => {
    const percent = Math.floor((100 * written) / size)
    if (percent === shown) return
    shown = percent
    process.stderr.write(`\r${name}: ${percent} % of ${(size / 1e6).toFixed(1)} MB${percent === 100 ? '\n' : ''}`)
  }
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      dtype: { type: 'string' },
      seed: { type: 'string', default: '1' },
      force: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return console.log(helpText())
  if (positionals.length === 0) throw new Error(`Which model? One of ${Object.keys(SHAPES).join(', ')}, or all.`)
  const { force } = values
  const seed = values.seed === '' ? Number.NaN : Number(values.seed)
  for (const name of positionals.includes('all') ? Object.keys(SHAPES) : positionals) {
    const begun = performance.now()
    const dtype = values.dtype === undefined ? {} : { dtype: /** @type {Dtype} */ (values.dtype) }
    const model = makeModel(name, { ...dtype, seed, force, onProgress: progressOf(name) })
    const seconds = Number(((performance.now() - begun) / 1000).toFixed(2))
    console.log(values.json ? JSON.stringify({ name, ...model, seconds }) : model.path)
  }
}

try {
  main()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
