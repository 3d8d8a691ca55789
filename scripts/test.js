/**
 * `npm test`: builds, checks, and runs every test but those of the package; the last line is 'N passed, N failed,
 * N skipped'.
 *
 * --sim        builds and runs what is about GPUs on the simulated CUDA driver only: the suites over device memory, and
 *              native tests of the driver itself and of transfers that GPUs take part in
 * --native     builds and runs the native unit tests only
 * --engine     builds and runs the tests with a real engine, node-llama-cpp, only; installs it where it is missing
 * --package    builds and runs the tests of the tarball, the prebuilt addon and the bundle for GPU hosts
 * --tarball    of the package's, those of the tarball and the prebuilt addon only
 * --only-run   neither builds nor checks, and adds its counts to those of earlier steps, whose script prints the last line
 *
 * Other words are handed to vitest: `npm test -- block-pool` runs the files whose path holds that.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ensureEngine } from './engine.js'
import { runNativeTests } from './native-tests.js'
import { clearResults, printSummary, record, recordedFailure, resultsFile } from './results.js'
import { root, run, tool } from './run.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sim: { type: 'boolean', default: false },
    native: { type: 'boolean', default: false },
    engine: { type: 'boolean', default: false },
    package: { type: 'boolean', default: false },
    tarball: { type: 'boolean', default: false },
    'only-run': { type: 'boolean', default: false },
  },
})

/** Native test files about GPUs. */
const SIM_SOURCES = ['*/support/sim-cuda/*', '*/transfer/device/*', '*/memory/device/*', '*/kernels/device/*']

let allOk = true

/** @param {string} step @param {string[]} args @param {Record<string, string>} [environment] @param {string} [folder] - whose config it is */
function runVitest(step, args, environment = {}, folder = 'test') {
  const all = ['run', '--config', join(root, folder, 'vitest.config.ts'), ...args]
  const ok = run(tool('vitest'), all, { ...environment, KVTIER_RESULTS: resultsFile(step) })
  if (!ok && !recordedFailure(step)) record(step, { failed: 1 })
  allOk &&= ok
}

/** @param {string} step @param {string} script @param {string[]} args @returns {boolean} whether to go on */
function prepare(step, script, args = []) {
  const ok = run(process.execPath, [join(root, 'scripts', script), ...args])
  if (!ok) record(step, { failed: 1 })
  allOk &&= ok
  return ok
}

/** Where this machine cannot have the engine, its tests are skipped, and counted as skipped. */
function runEngineTests() {
  const engine = ensureEngine()
  if (engine.state === 'ready') return runVitest('test-engine', positionals, {}, 'test/engine')
  console.error(engine.reason)
  if (engine.state === 'unavailable') {
    return record('test-engine', { skipped: [{ name: 'tests with a real engine', reason: engine.reason }] })
  }
  record('test-engine', { failed: 1 })
  allOk = false
}

function main() {
  const chosen = values.native || values.package || values.tarball || values.sim || values.engine
  const everything = !chosen && positionals.length === 0
  if (!values['only-run']) {
    clearResults()
    if (!prepare('build', 'build.js', values.native ? ['--native'] : [])) return
    if (everything) prepare('check', 'check.js')
  }
  // Where they run with sanitizers anyway, they do not run without as well.
  const withSanitizers = process.env.KVTIER_UNIT_TESTS === 'sanitized'
  if (values.native || (everything && !withSanitizers)) allOk = runNativeTests('test-native', 'build') && allOk
  if (values.engine) {
    runEngineTests()
  } else if (values.sim) {
    allOk = runNativeTests('test-sim-native', 'build', {}, SIM_SOURCES) && allOk
    runVitest('test-sim', ['--project', 'sim', ...positionals])
  } else if (values.package || values.tarball) {
    if (!values['only-run'] && !prepare('prebuild', 'prebuild.js')) return
    const files = ['test/package', ...(values.tarball ? [] : ['test/scripts/bundle-gpu.test.ts'])]
    runVitest('test-package', [...files, ...positionals], { KVTIER_PACKAGE: '1' })
  } else if (!values.native) {
    runVitest('test-vitest', positionals)
  }
}

main()
if (!values['only-run']) printSummary()
if (!allOk) process.exitCode = 1
