/**
 * `./run-tests` of the bundle that scripts/bundle-gpu.js makes. It runs the native unit tests, then the tests of devices on
 * the simulated driver, then, where this host's own driver and a GPU are found, those that run on a real GPU. The last
 * line is 'N passed, N failed, N skipped'.
 *
 * --only STEP   native, simulated or gpu
 * --help        prints these lines
 *
 * Other words choose files: `./run-tests --only simulated cuda-fence` runs the files whose path holds that.
 * KVTIER_CUDA_LIBRARY names another driver than the one that the system finds.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runNativeTests } from '../native-tests.js'
import { clearResults, printSummary, record, recordedFailure, resultsFile } from '../results.js'
import { capture, root, run } from '../run.js'

const steps = ['native', 'simulated', 'gpu']
const testing = join(root, 'build', 'testing')

/** @returns {string} the comment at the top of this file, as help */
function helpText() {
  const lines = readFileSync(fileURLToPath(import.meta.url), 'utf8').split('\n')
  return lines
    .slice(1, lines.indexOf(' */'))
    .map((line) => line.replace(/^ \* ?/, ''))
    .join('\n')
}

/** @param {string} step @param {string[]} files @param {Record<string, string>} environment */
function runVitest(step, files, environment) {
  if (files.length === 0) return
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [vitest, 'run', '--config', join(root, 'test', 'vitest.config.ts'), ...files]
  const own = { KVTIER_ADDON: join(testing, 'kvtier_testing.node'), KVTIER_RESULTS: resultsFile(step) }
  const ok = run(process.execPath, args, { ...own, ...environment })
  if (!ok && !recordedFailure(step)) record(step, { failed: 1 })
}

/** @returns {string | null} why there is no real GPU to run on; null where there is one */
function whyNoGpu() {
  const command = [join(root, 'dist', 'cli', 'kvtier.js'), 'doctor', '--json']
  const { ok, output } = capture(process.execPath, command, { KVTIER_ADDON: '' })
  if (!ok) return `kvtier doctor failed: ${output.trim()}`
  const { cuda } = JSON.parse(output.slice(output.indexOf('{'))).machine
  return cuda.state === 'ready' ? null : `no GPU: the driver is ${cuda.state}`
}

/** @param {string[]} files */
function runOnGpu(files) {
  if (files.length === 0) return
  const reason = whyNoGpu()
  if (reason === null) {
    console.log('\n==> on the real GPU')
    runVitest('gpu', files, { KVTIER_TEST_GPU: 'real' })
    return
  }
  record('gpu', { skipped: files.map((name) => ({ name, reason })) })
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { only: { type: 'string' }, help: { type: 'boolean', short: 'h', default: false } },
  })
  if (values.help) {
    console.log(helpText())
    return true
  }
  if (values.only !== undefined && !steps.includes(values.only)) {
    console.error(`--only takes ${steps.join(', ')}, not '${values.only}'.`)
    return false
  }
  if (!existsSync(join(root, 'bundle.json'))) {
    console.error('This belongs in a bundle: npm run bundle-gpu makes one, with ./run-tests in it.')
    return false
  }
  const { simulated, gpu } = JSON.parse(readFileSync(join(root, 'bundle.json'), 'utf8'))
  /** @param {string[]} files */
  const chosen = (files) =>
    positionals.length === 0 ? files : files.filter((file) => positionals.some((word) => file.includes(word)))
  /** @param {string} step */
  const runs = (step) => values.only === undefined || values.only === step
  if (positionals.length > 0 && chosen([...simulated, ...gpu]).length === 0) {
    console.error(`No test file has ${positionals.join(' or ')} in its path; there are:\n${simulated.join('\n')}`)
    return false
  }
  clearResults()
  if (runs('native') && positionals.length === 0) runNativeTests('native', 'build')
  if (runs('simulated')) runVitest('simulated', chosen(simulated), {})
  if (runs('gpu')) runOnGpu(chosen(gpu))
  return printSummary()
}

if (!main()) process.exitCode = 1
