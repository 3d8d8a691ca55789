/**
 * The packages of test/engine for scripts that run outside it: import this only after `ensureEngine()` of engine.js. In a
 * project of your own these are plain imports of 'node-llama-cpp' and 'fastify'.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { engineFolder } from './engine.js'

/** @param {string} path - of a file below test/engine/node_modules @returns {Promise<unknown>} */
async function load(path) {
  return await import(pathToFileURL(join(engineFolder, 'node_modules', path)).href)
}

/** @returns {Promise<typeof import('node-llama-cpp')>} */
export async function loadLlama() {
  return /** @type {typeof import('node-llama-cpp')} */ (await load('node-llama-cpp/dist/index.js'))
}

/** The engine on the CPU, never compiled or downloaded. */
export async function openCpuEngine() {
  const { getLlama, LlamaLogLevel } = await loadLlama()
  return await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
  })
}

/** @returns {Promise<typeof import('fastify')>} */
export async function loadFastify() {
  return /** @type {typeof import('fastify')} */ (await load('fastify/fastify.js'))
}
