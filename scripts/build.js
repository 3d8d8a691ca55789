/**
 * `npm run build`: the addon, what tests and benchmarks load, and dist/.
 *
 * --native       only the native half
 * --addon-only   of the native half only what is shipped
 * --js           only dist/
 * --cuda WORD    AUTO, ON or OFF (default: what the build folder was configured with, or AUTO)
 * --cuda-api WORD   driver or runtime (default: likewise, or driver)
 * --out FOLDER   another build folder than build/
 * --target WORD  only this target of the native half, for example kvtier_layer_platform
 * --debug        not optimised, which compiles in half the time
 * --sanitize LIST   with sanitizers, for example address,undefined
 */
import { chmodSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { parallel, root, run, tool } from './run.js'

const { values } = parseArgs({
  options: {
    native: { type: 'boolean', default: false },
    'addon-only': { type: 'boolean', default: false },
    js: { type: 'boolean', default: false },
    cuda: { type: 'string' },
    'cuda-api': { type: 'string' },
    out: { type: 'string', default: 'build' },
    sanitize: { type: 'string' },
    target: { type: 'string' },
    debug: { type: 'boolean', default: false },
  },
})
const both = values.native === values.js

function buildNative() {
  const cmake = tool('cmake-js')
  const place = ['--out', join(root, values.out)]
  const options = [`--CDKVTIER_TESTING=${values['addon-only'] ? 'OFF' : 'ON'}`]
  if (values.cuda) options.push(`--CDKVTIER_CUDA=${values.cuda}`)
  if (values['cuda-api']) options.push(`--CDKVTIER_CUDA_API=${values['cuda-api']}`)
  if (values.sanitize) options.push(`--CDKVTIER_SANITIZE=${values.sanitize.replaceAll(',', ';')}`)
  if (values.debug) place.push('--debug')
  const target = values.target ? ['--target', values.target] : []
  // Configuring takes half a second and notices new files and changed options.
  return (
    run(cmake, ['configure', ...place, ...options, '--log-level', 'warn']) &&
    run(cmake, ['build', ...place, ...target, '--parallel', parallel, '--log-level', 'warn'])
  )
}

function buildJs() {
  const dist = join(root, 'dist')
  rmSync(dist, { recursive: true, force: true })
  if (!existsSync(tool('tsc'))) {
    console.error('dist/ needs TypeScript: run npm install with development dependencies.')
    return false
  }
  if (!run(tool('tsc'), ['--project', join(root, 'lib')])) return false
  const command = join(dist, 'cli', 'kvtier.js')
  if (existsSync(command)) chmodSync(command, 0o755)
  return true
}

let ok = true
if (both || values.native) ok = buildNative()
if (ok && (both || values.js)) ok = buildJs()
process.exitCode = ok ? 0 : 1
