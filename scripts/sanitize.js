/**
 * `npm run test:sanitize`: builds with AddressSanitizer and UndefinedBehaviorSanitizer in one folder and with
 * ThreadSanitizer in another, runs the native unit tests with each, and the tests that drive the addon hardest inside
 * Node. A report is a failure. Nothing of ours is suppressed; scripts/sanitizers/ names what Node itself is excused.
 *
 * --only NAME   address or thread
 * --native      the native unit tests alone
 * --only-run    adds its counts to those of earlier steps, whose script prints the last line
 *
 * Other words replace the default choice of test files.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runNativeTests } from './native-tests.js'
import { clearResults, printSummary, record, recordedFailure, resultsFile } from './results.js'
import { capture, root, run, tool } from './run.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    native: { type: 'boolean', default: false },
    'only-run': { type: 'boolean', default: false },
  },
})

/**
 * What runs where. A thread sanitizer's Node is an order of magnitude slower, so it gets the files about threads.
 *
 * @typedef {{ name: string, flags: string, preload: string[], options: Record<string, string>, files: string[] }} Variant
 * @type {Variant[]}
 */
const variants = [
  {
    name: 'address',
    flags: 'address,undefined',
    preload: ['libasan.so', 'libstdc++.so'],
    options: {
      ASAN_OPTIONS: 'detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0',
      LSAN_OPTIONS: `print_suppressions=0:suppressions=${join(root, 'scripts', 'sanitizers', 'leak.txt')}`,
      UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
    },
    files: ['test/native-binding', 'test/movement', 'test/fault', 'test/process'],
  },
  {
    name: 'thread',
    flags: 'thread',
    preload: ['libtsan.so'],
    options: {
      TSAN_OPTIONS: `halt_on_error=1:second_deadlock_stack=1:suppressions=${join(root, 'scripts', 'sanitizers', 'thread.txt')}`,
    },
    files: ['test/native-binding'],
  },
]

/** @param {Variant} variant @returns {string} the preload list, or an empty text when a library is missing */
function preloadOf(variant) {
  const paths = variant.preload.map((name) => capture('g++', [`-print-file-name=${name}`]).output.trim())
  return paths.every((path) => path.startsWith('/') && existsSync(path)) ? paths.join(' ') : ''
}

/** @param {Variant} variant @returns {boolean} whether nothing failed */
function runVariant(variant) {
  const step = `sanitize-${variant.name}`
  const preload = preloadOf(variant)
  if (process.platform !== 'linux' || preload === '') {
    const reason = `needs Linux and the compiler's ${variant.preload.join(' and ')}`
    record(step, { skipped: [{ name: `${variant.name} sanitizer`, reason }] })
    return true
  }
  const folder = join('build', `sanitize-${variant.name}`)
  const build = ['--native', '--out', folder, '--sanitize', variant.flags]
  if (values.native) build.push('--target', 'kvtier_unit_tests')
  if (!run(process.execPath, [join(root, 'scripts', 'build.js'), ...build])) {
    record(step, { failed: 1 })
    return false
  }
  const nativeOk = runNativeTests(`${step}-native`, folder, variant.options)
  if (values.native) return nativeOk
  const files = (positionals.length > 0 ? positionals : variant.files).filter((file) => existsSync(join(root, file)))
  const environment = {
    ...variant.options,
    KVTIER_ADDON: join(root, folder, 'testing', 'kvtier_testing.node'),
    KVTIER_PRELOAD: preload,
    KVTIER_SANITIZER: variant.name,
    KVTIER_RESULTS: resultsFile(`${step}-node`),
  }
  const config = join(root, 'test', 'vitest.config.ts')
  const ok = run(tool('vitest'), ['run', '--config', config, '--passWithNoTests', ...files], environment)
  if (!ok && !recordedFailure(`${step}-node`)) record(`${step}-node`, { failed: 1 })
  return ok && nativeOk
}

if (!values['only-run']) clearResults()
const chosen = variants.filter(({ name }) => values.only === undefined || values.only === name)
const ok = chosen.map(runVariant).every((variantOk) => variantOk)
if (!values['only-run']) printSummary()
if (!ok) process.exitCode = 1
