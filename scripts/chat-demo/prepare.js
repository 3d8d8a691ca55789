/**
 * Everything that the demo needs and a fresh clone has not: kvtier built, node-llama-cpp installed, a model made.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ensureEngine, UNAVAILABLE } from '../engine.js'
import { makeModel } from '../models/cache.js'
import { root, run, tool } from '../run.js'

/** Why it cannot run here, and the exit code that says so. */
export class PrepareError extends Error {
  /** @param {string} message @param {number} [exitCode] */
  constructor(message, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

/** @param {string} name @param {readonly string[]} options @returns {boolean} */
function script(name, options) {
  return run(process.execPath, [join(root, 'scripts', name), ...options])
}

/** Installs and builds what is missing of kvtier, and nothing that only its tests need. */
function ensureKvtier() {
  const hasTools = existsSync(tool('tsc'))
  const isBuilt =
    existsSync(join(root, 'dist', 'index.js')) && existsSync(join(root, 'build', 'Release', 'kvtier.node'))
  if (hasTools && isBuilt) return
  console.error('Building kvtier, which takes a minute or two ...')
  const ok =
    (hasTools || run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel', 'error'])) &&
    script('build.js', ['--native', '--addon-only']) &&
    script('build.js', ['--js'])
  if (!ok) throw new PrepareError('kvtier could not be built; what is missing is named above.')
}

/**
 * @param {string | null} model - a GGUF file; null: the made one
 * @param {(text: string) => void} [step] - is told how far a model that is being made has come
 * @returns {string} the model's file
 * @throws PrepareError
 */
export function prepare(model, step = () => {}) {
  ensureKvtier()
  const engine = ensureEngine()
  if (engine.state !== 'ready') {
    throw new PrepareError(engine.reason, engine.state === 'unavailable' ? UNAVAILABLE : 1)
  }
  if (model !== null) return model
  const onProgress = (/** @type {number} */ written, /** @type {number} */ size) =>
    step(`making a model: ${Math.floor((100 * written) / size)} %`)
  return makeModel('tiny', { onProgress }).path
}
