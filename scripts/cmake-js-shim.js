#!/usr/bin/env node
/**
 * Stands where prebuildify expects node-gyp (`--node-gyp`): takes `rebuild --target=.. --arch=.. --release` and runs
 * cmake-js. What prebuildify calls the target is Node's version; Node-API addons do not depend on it.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { parallel, root, tool } from './run.js'

const { values } = parseArgs({ strict: false, options: { arch: { type: 'string' }, debug: { type: 'boolean' } } })
const place = ['--directory', root, '--out', join(process.cwd(), 'build')]
const shape = [
  ...(typeof values.arch === 'string' ? ['--arch', values.arch] : []),
  ...(values.debug ? ['--debug'] : []),
]

/** @param {string} verb @param {string[]} [args] */
function cmakeJs(verb, args = []) {
  const result = spawnSync(tool('cmake-js'), [verb, ...place, ...shape, ...args], { stdio: 'inherit' })
  if (result.status !== 0) process.exit(result.status ?? 1)
}

cmakeJs('configure', ['--CDKVTIER_TESTING=OFF'])
cmakeJs('build', ['--parallel', parallel])
