/**
 * What every step of a test run passed, failed and skipped, kept in build/results until the last line is printed.
 *
 * As a program: `node scripts/results.js` prints the skips with their reasons, the injected failures and the last line,
 * 'N passed, N failed, N skipped', and ends with 1 where something failed. `--clear` forgets earlier runs,
 * `--fail STEP` notes a step that ended badly.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './run.js'

const folder = join(root, 'build', 'results')

/** @typedef {{ name: string, reason: string }} Skip */
/**
 * `injected`: failures that tests made on purpose, where they are counted.
 *
 * @typedef {{ passed: number, failed: number, skipped: Skip[], injected?: number }} Results
 */

/** @param {string} step */
export function resultsFile(step) {
  mkdirSync(folder, { recursive: true })
  return join(folder, `${step.replaceAll(/[^a-z0-9]+/gi, '-')}.json`)
}

/**
 * @param {string} step
 * @param {Partial<Results>} results
 */
export function record(step, results) {
  writeFileSync(resultsFile(step), JSON.stringify({ passed: 0, failed: 0, skipped: [], ...results }))
}

/** Forgets what earlier runs recorded. */
export function clearResults() {
  rmSync(folder, { recursive: true, force: true })
}

/** Whether a step recorded a failure of its own. @param {string} step */
export function recordedFailure(step) {
  const file = resultsFile(step)
  return existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).failed > 0
}

/** Prints every skip with its reason, how many failures were injected, what failed, and the last line. @returns {boolean} whether nothing failed */
export function printSummary() {
  let passed = 0
  let failed = 0
  let skipped = 0
  for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
    /** @type {Results} */
    const results = JSON.parse(readFileSync(join(folder, name), 'utf8'))
    const step = name.replace(/\.json$/, '')
    passed += results.passed
    failed += results.failed
    skipped += results.skipped.length
    for (const skip of results.skipped) console.log(`skipped in ${step}: ${skip.name} (${skip.reason})`)
    if (results.injected)
      console.log(`injected in ${step}: ${results.injected} failures, in ${results.passed} tests that passed`)
    if (results.failed > 0) console.log(`failed in ${step}: ${results.failed}`)
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  return failed === 0
}

function main() {
  const [option, step] = process.argv.slice(2)
  if (option === '--clear') {
    clearResults()
  } else if (option === '--fail' && step !== undefined) {
    // A step whose tests were counted as failed already is not counted twice.
    const steps = existsSync(folder) ? readdirSync(folder).map((name) => name.replace(/\.json$/, '')) : []
    const counted = steps.some((name) => (name === step || name.startsWith(`${step}-`)) && recordedFailure(name))
    if (!counted) record(`step-${step}`, { failed: 1 })
  } else if (!printSummary()) {
    process.exitCode = 1
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
