/**
 * How the tests with a real engine run: `npm run test:engine`. They load kvtier from lib/ and the testing addon, as all
 * tests do, and node-llama-cpp from this folder's own packages, also where lib/ imports it.
 */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { ResultsReporter } from '../support/results-reporter.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { KVTIER_ADDON, KVTIER_RESULTS } = process.env

export default defineConfig({
  root,
  cacheDir: `${root}build/vitest-engine`,
  resolve: {
    alias: [
      { find: /^node-llama-cpp$/, replacement: `${root}test/engine/node_modules/node-llama-cpp/dist/index.js` },
      // The example imports kvtier by its name.
      { find: /^kvtier$/, replacement: `${root}lib/index.ts` },
      { find: /^kvtier\/connectors\/(.*)$/, replacement: `${root}lib/connectors/$1/index.ts` },
    ],
  },
  test: {
    name: 'engine',
    include: ['test/engine/**/*.test.ts'],
    exclude: ['**/node_modules/**'],
    globals: false,
    pool: 'forks',
    // The engine computes with one thread in each.
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    env: { KVTIER_ADDON: KVTIER_ADDON ?? `${root}build/testing/kvtier_testing.node` },
    reporters: KVTIER_RESULTS ? ['default', new ResultsReporter(KVTIER_RESULTS)] : ['default'],
  },
})
