/**
 * Made models as files of a cache folder: KVTIER_MODEL_CACHE, or kvtier/models in the user's cache folder. A file is there
 * complete or not at all, and is used again; processes that make the same one at a time do not disturb each other.
 */

import { randomUUID } from 'node:crypto'
import { closeSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { sizeOf, writeGguf } from './gguf-writer.js'
import { isModelName, metadataOf, SHAPES, tensorsOf } from './shapes.js'

/** Part of a file's name: raised whenever the bytes of any model change. */
export const MAKER_VERSION = 1

/** @typedef {import('./shapes.js').Dtype} Dtype */
/**
 * `dtype`: of matrices (default: the model's own). `seed` (default: 1). `folder`: where it goes (default: the cache
 * folder). `force`: make it again. `onProgress`: called with the bytes so far and in all while it is made.
 *
 * @typedef {{ dtype?: Dtype, seed?: number, folder?: string, force?: boolean,
 *   onProgress?: (written: number, size: number) => void }} ModelOptions
 */
/** @typedef {{ path: string, bytes: number, dtype: Dtype, made: boolean }} Model */

/** @returns {string} the folder of made models; it may not exist yet */
export function cacheFolder() {
  const { KVTIER_MODEL_CACHE, XDG_CACHE_HOME } = process.env
  return resolve(KVTIER_MODEL_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'kvtier', 'models'))
}

/** @param {string} dtype @returns {dtype is Dtype} */
function isDtype(dtype) {
  return dtype === 'f16' || dtype === 'q8_0'
}

/** @param {string} path @returns {number | undefined} its size, where it is a file */
function sizeOnDisk(path) {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat?.isFile() ? stat.size : undefined
}

/**
 * Makes a model's file where it is not there yet, and says where it is. Throws where a name is wrong or the file cannot be
 * written.
 *
 * @param {string} name - tiny, mid, large, window or hybrid
 * @param {ModelOptions} [options]
 * @returns {Model}
 */
export function makeModel(name, options = {}) {
  if (!isModelName(name)) {
    throw new Error(`There is no model '${name}': there are ${Object.keys(SHAPES).join(', ')}.`)
  }
  const { dtype = SHAPES[name].dtype, seed = 1, folder = cacheFolder(), onProgress } = options
  if (!isDtype(dtype)) throw new Error(`A model's weights are f16 or q8_0, not '${dtype}'.`)
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`A seed is a whole number from 0 on, not ${seed}.`)

  const metadata = metadataOf(name, dtype)
  const tensors = tensorsOf(name, dtype, seed)
  const bytes = sizeOf(metadata, tensors)
  const path = join(folder, `kvtier-${name}-${dtype}-v${MAKER_VERSION}-seed${seed}.gguf`)
  if (!options.force && sizeOnDisk(path) === bytes) return { path, bytes, dtype, made: false }

  mkdirSync(folder, { recursive: true })
  const unfinished = `${path}.${process.pid}-${randomUUID()}.part`
  try {
    const file = openSync(unfinished, 'wx')
    try {
      writeGguf(file, metadata, tensors, (written) => onProgress?.(written, bytes))
    } finally {
      closeSync(file)
    }
    renameSync(unfinished, path)
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw error
  }
  return { path, bytes, dtype, made: true }
}

/**
 * The path of a made model, which is made where it is not there yet.
 *
 * @param {string} name - tiny, mid, large, window or hybrid
 * @param {ModelOptions} [options]
 * @returns {string}
 */
export function modelPath(name, options = {}) {
  return makeModel(name, options).path
}

/**
 * The path of the model that KVTIER_ENGINE_MODEL names, or where it names none, of a made one: for tests and benchmarks that
 * run with any model.
 *
 * @param {string} name - the made model
 * @param {ModelOptions} [options]
 * @returns {string}
 */
export function engineModelPath(name, options = {}) {
  const { KVTIER_ENGINE_MODEL } = process.env
  if (!KVTIER_ENGINE_MODEL) return modelPath(name, options)
  const path = resolve(KVTIER_ENGINE_MODEL)
  if (sizeOnDisk(path) === undefined) throw new Error(`KVTIER_ENGINE_MODEL names no file: ${path}`)
  return path
}
