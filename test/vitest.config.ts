/**
 * How the TypeScript tests run: one process a file, so that a crash of native code is one file's failure. In the project
 * `sim` device memory is that of GPUs of the simulated driver: the suites that take every kind of it run there again, with
 * what is about GPUs alone.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { ResultsReporter } from './support/results-reporter.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const { KVTIER_PACKAGE, KVTIER_PRELOAD, KVTIER_RESULTS, KVTIER_SANITIZER } = process.env
const addon = process.env.KVTIER_ADDON ?? `${root}build/testing/kvtier_testing.node`

// The test processes inherit it, this one does not: sanitizers watch our code, not the test runner's.
if (KVTIER_PRELOAD) process.env.LD_PRELOAD = KVTIER_PRELOAD

/** Suites that run on host memory and on GPUs. */
const ON_BOTH = ['test/conformance/storage*.test.ts', 'test/model/*.test.ts', 'test/fault/*.test.ts']
/** Files that need GPUs. */
const ON_GPUS = ['test/fault/device-*.test.ts', 'test/fault/gpu-*.test.ts', 'test/movement/cuda*.test.ts']
/** The simulated driver is built on Linux. */
const isSimulated = existsSync(join(dirname(addon), 'libkvtier_sim_cuda.so'))

/** What chooses its own addon, so that a sanitizer would see nothing of it. */
const NOT_SANITIZED = ['test/process/crash.test.ts', 'test/process/readme.test.ts']

const main = {
  name: 'main',
  include: ['test/**/*.test.ts'],
  // Minutes long, and about a tarball or a bundle that must be made first: `npm test -- --package`.
  exclude: [
    ...ON_GPUS,
    // Those that need node-llama-cpp have a package and a config of their own: `npm run test:engine`.
    'test/engine/**',
    ...(KVTIER_PACKAGE ? [] : ['test/package/**', 'test/scripts/bundle-gpu.test.ts']),
    ...(KVTIER_SANITIZER ? NOT_SANITIZED : []),
  ],
  env: { KVTIER_ADDON: addon },
}

const sim = {
  name: 'sim',
  include: [...ON_BOTH, ...ON_GPUS],
  setupFiles: ['test/support/sim-setup.ts'],
  env: { KVTIER_ADDON: addon, KVTIER_TEST_DEVICE: 'cuda' },
}

export default defineConfig({
  root,
  cacheDir: `${root}build/vitest`,
  test: {
    globals: false,
    pool: 'forks',
    // One more than most machines of a CI have processors: many tests wait for processes and disks.
    maxWorkers: 3,
    // V8's own threads synchronise in ways that a thread sanitizer cannot see; without them it watches ours alone.
    execArgv: KVTIER_SANITIZER === 'thread' ? ['--single-threaded'] : [],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: KVTIER_RESULTS ? ['default', new ResultsReporter(KVTIER_RESULTS)] : ['default'],
    projects: [main, ...(isSimulated ? [sim] : [])].map((test) => ({ extends: true, test })),
  },
})
