/**
 * `npm run prebuildify`: makes prebuilds/<platform>-<arch>/ for the tarball, stripped, in a build folder of its own so that
 * the checkout's addons stay as they are. The verb is not `prebuild`: npm would run that before every `npm run build`.
 *
 * --from-build   takes the addon that `npm run build` made, which differs in nothing but the debug information that is
 *                stripped: for checks of the tarball, not for releases
 */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root, run, tool } from './run.js'

const { values } = parseArgs({ options: { 'from-build': { type: 'boolean', default: false } } })
const target = join(root, 'prebuilds', `${process.platform}-${process.arch}`)

function takeBuilt() {
  const libc = process.platform === 'linux' ? '.glibc' : ''
  const file = join(target, `kvtier${libc}.node`)
  mkdirSync(target, { recursive: true })
  copyFileSync(join(root, 'build', 'Release', 'kvtier.node'), file)
  return run('strip', process.platform === 'darwin' ? ['-Sx', file] : [file])
}

const folder = join(root, 'build', 'prebuild')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
rmSync(target, { recursive: true, force: true })

const options = ['--napi', '--strip', '--name', 'kvtier', '--cwd', folder, '--out', root, '--target', process.version]
// glibc and musl builds lie side by side; the loader takes the one that fits.
if (process.platform === 'linux') options.push('--tag-libc')
const ok = values['from-build']
  ? takeBuilt()
  : run(tool('prebuildify'), [...options, '--node-gyp', join(root, 'scripts', 'cmake-js-shim.js')])
process.exitCode = ok ? 0 : 1
