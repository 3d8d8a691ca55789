/**
 * `npm run check`: everything about the sources that a program can judge without running them. With --fix it applies
 * what can be applied. Every check runs, also after one has failed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isEngineInstalled } from './engine.js'
import { filesBelow, root, run, tool } from './run.js'

const fixing = process.argv.includes('--fix')
const nativeFolders = ['native', 'test/native', 'test/support', 'test/gpu', 'bench/native']
const nativeEndings = ['.h', '.cc', '.cu', '.cuh']
const longestFile = 500

function biome() {
  const flags = fixing ? ['--write'] : ['--error-on-warnings']
  return run(tool('biome'), ['check', ...flags, '--colors=off', '--no-errors-on-unmatched', root])
}

function types() {
  // Engine tests are written against the engine's own types.
  const engine = isEngineInstalled() ? ['test/engine'] : []
  if (engine.length === 0) console.error('Types of test/engine were not checked: run node scripts/engine.js install.')
  return ['lib', 'test', 'bench', ...engine]
    .map((project) => run(tool('tsc'), ['--noEmit', '--project', join(root, project)]))
    .every((ok) => ok)
}

/** The one of the lockfile, so that all checkouts agree; its package has none for some processors. */
function clangFormatProgram() {
  const pinned = tool('clang-format')
  return spawnSync(pinned, ['--version']).status === 0 ? pinned : 'clang-format'
}

function clangFormat() {
  const files = filesBelow(root, nativeFolders, nativeEndings)
  if (files.length === 0) return true
  return run(clangFormatProgram(), [...(fixing ? ['-i'] : ['--dry-run', '-Werror']), ...files])
}

function fileLengths() {
  const files = [
    ...filesBelow(root, nativeFolders, nativeEndings),
    ...filesBelow(root, ['lib', 'test', 'bench', 'scripts'], ['.ts', '.js']),
  ].filter((file) => !file.includes('/node_modules/'))
  const long = files.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length - 1 > longestFile)
  for (const file of long) console.error(`${file}: longer than ${longestFile} lines`)
  return long.length === 0
}

function packageShape() {
  if (!existsSync(join(root, 'dist', 'index.js'))) {
    console.error('publint was not run: dist/ is not built; run npm run build first.')
    return true
  }
  return run(tool('publint'), ['run', root, '--strict', '--pack', 'false'])
}

/** @param {string} name @param {string[]} [args] */
function script(name, args = []) {
  return () => run(process.execPath, [join(root, 'scripts', name), ...args])
}

/** @type {[string, () => boolean][]} */
const checks = [
  ['format and lint (biome)', biome],
  ['native format (clang-format)', clangFormat],
]
if (!fixing) {
  checks.push(
    ['types (tsc)', types],
    ['layers', script('check-layers.js')],
    ['generated.ts', script('generate-bindings.js', ['--check'])],
    ['file lengths', fileLengths],
    ['package (publint)', packageShape],
  )
}

const failed = checks.filter(([name, check]) => {
  const ok = check()
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name}`)
  return !ok
})
if (failed.length > 0) process.exitCode = 1
