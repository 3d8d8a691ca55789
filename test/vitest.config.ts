/** How the TypeScript tests run: one process a file, so that a crash of native code is one file's failure. */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { ResultsReporter } from './support/results-reporter.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const { KVTIER_ADDON, KVTIER_PACKAGE, KVTIER_PRELOAD, KVTIER_RESULTS, KVTIER_SANITIZER } = process.env

// The test processes inherit it, this one does not: sanitizers watch our code, not the test runner's.
if (KVTIER_PRELOAD) process.env.LD_PRELOAD = KVTIER_PRELOAD

export default defineConfig({
  root,
  cacheDir: `${root}build/vitest`,
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes long, and about a tarball or a bundle that must be made first: `npm test -- --package`.
    exclude: KVTIER_PACKAGE ? [] : ['test/package/**', 'test/scripts/bundle-gpu.test.ts'],
    globals: false,
    pool: 'forks',
    maxWorkers: 2,
    // V8's own threads synchronise in ways that a thread sanitizer cannot see; without them it watches ours alone.
    execArgv: KVTIER_SANITIZER === 'thread' ? ['--single-threaded'] : [],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    env: { KVTIER_ADDON: KVTIER_ADDON ?? `${root}build/testing/kvtier_testing.node` },
    reporters: KVTIER_RESULTS ? ['default', new ResultsReporter(KVTIER_RESULTS)] : ['default'],
  },
})
