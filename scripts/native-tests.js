/**
 * Runs the native unit tests of a build folder and counts them.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { record } from './results.js'
import { capture, root } from './run.js'

/**
 * @param {string} step - under which name the counts are kept
 * @param {string} buildFolder - relative to the root
 * @param {Record<string, string>} [environment]
 * @param {string[]} [sources] - patterns of the test files to run; all when left out
 * @returns {boolean} whether nothing failed
 */
export function runNativeTests(step, buildFolder, environment = {}, sources = []) {
  const program = join(root, buildFolder, 'testing', 'kvtier_unit_tests')
  if (!existsSync(program)) {
    const reason = 'doctest or xxhash is not installed; on Debian: apt-get install doctest-dev libxxhash-dev'
    console.log(`native unit tests are not built in ${buildFolder}: ${reason}`)
    record(step, { skipped: [{ name: 'native unit tests', reason }] })
    return true
  }
  const chosen = sources.length > 0 ? [`--source-file=${sources.join(',')}`] : []
  const { ok, output, ended } = capture(program, ['--no-path-filenames=true', '--no-intro', ...chosen], environment)
  console.log(output.trimEnd())
  const line = /test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped/.exec(output)
  const [passed, failed, skippedCount] = [Number(line?.[2] ?? 0), Number(line?.[3] ?? 0), Number(line?.[4] ?? 0)]
  // What a pattern leaves out is counted as skipped by doctest.
  const skipped = Array.from({ length: sources.length > 0 ? 0 : skippedCount }, () => ({
    name: 'native test case',
    reason: 'marked as skipped in its source',
  }))
  if (!ok) console.error(`${program} ended with ${ended}`)
  // A crash or a sanitizer's report ends the program without a failed case.
  record(step, { passed, failed: ok ? failed : Math.max(1, failed), skipped })
  return ok
}
