/**
 * `node scripts/engine.js install`: node-llama-cpp for the engine tests, the chat demo and the engine benchmarks, and
 * Fastify for the example, in test/engine/node_modules and nowhere else: the engine's CPU build only, without install
 * scripts, about 100 MB in all. Does nothing where it is installed already as test/engine/package-lock.json says.
 *
 * Ends with 0 where it is there, with 3 where this machine cannot have it (no registry, another platform), with 1 where
 * installing failed.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './run.js'

/** Where the engine's package is, without a slash at the end. */
export const engineFolder = join(root, 'test', 'engine')

/** Ends a run that cannot be had here: what called it counts a skip. */
export const UNAVAILABLE = 3

/** What npm prints where no registry answers. */
const UNREACHABLE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT)\b|network (timeout|request)/i

const FLAGS = ['--omit=optional', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund']
/** Without a network npm says so within seconds. */
const PATIENCE = ['--fetch-retries=1', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=2000']

/**
 * `unavailable`: this machine cannot have it. `failed`: installing it failed. Both with a reason in a sentence.
 *
 * @typedef {{ state: 'ready', installed: boolean } | { state: 'unavailable' | 'failed', reason: string }} Engine
 */

/** @param {string} folder @returns {string} what tells one lockfile from another */
function lockOf(folder) {
  return createHash('sha256')
    .update(readFileSync(join(folder, 'package-lock.json')))
    .digest('hex')
}

/** @param {string} folder @returns {string} the file that says which lockfile was installed */
function stampOf(folder) {
  return join(folder, 'node_modules', '.kvtier-installed')
}

/** @param {string} [folder] @returns {boolean} whether the engine is installed as its lockfile says */
export function isEngineInstalled(folder = engineFolder) {
  const stamp = stampOf(folder)
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === lockOf(folder)
}

/** @returns {string | undefined} why this machine cannot run the engine's prebuilt CPU libraries */
function unsupported() {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    return `The engine tests' node-llama-cpp is for linux-x64, and this is ${platform}-${arch}.`
  }
  const header = /** @type {{ header?: { glibcVersionRuntime?: string } }} */ (process.report.getReport()).header
  return header?.glibcVersionRuntime
    ? undefined
    : "The engine tests' node-llama-cpp needs glibc, and this Linux has none."
}

/**
 * Installs the engine where it is not there yet, or where its lockfile has changed.
 *
 * @param {{ folder?: string, npm?: string }} [options] - for tests: another package, another program
 * @returns {Engine}
 */
export function ensureEngine({ folder = engineFolder, npm = 'npm' } = {}) {
  const reason = unsupported()
  if (reason !== undefined) return { state: 'unavailable', reason }
  if (isEngineInstalled(folder)) return { state: 'ready', installed: false }
  console.log('Installing node-llama-cpp for the engine tests (about 100 MB) ...')
  const { status, stdout, stderr, error } = spawnSync(npm, ['ci', ...FLAGS, ...PATIENCE], {
    cwd: folder,
    encoding: 'utf8',
  })
  const output = `${stdout ?? ''}${stderr ?? ''}`
  if (status === 0) {
    writeFileSync(stampOf(folder), lockOf(folder))
    return { state: 'ready', installed: true }
  }
  if (error) return { state: 'failed', reason: `npm could not be run: ${error.message}` }
  if (UNREACHABLE.test(output)) {
    return { state: 'unavailable', reason: 'node-llama-cpp is not installed, and no package registry can be reached.' }
  }
  return { state: 'failed', reason: `npm could not install node-llama-cpp (exit code ${status}):\n${output.trim()}` }
}

function main() {
  if (process.argv[2] !== 'install' || process.argv.length > 3) {
    console.error('usage: node scripts/engine.js install')
    process.exitCode = 1
    return
  }
  const engine = ensureEngine()
  if (engine.state === 'ready') {
    console.log(
      `node-llama-cpp ${engine.installed ? 'is installed' : 'was installed already'} in test/engine/node_modules.`,
    )
    return
  }
  console.error(engine.reason)
  process.exitCode = engine.state === 'unavailable' ? UNAVAILABLE : 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
