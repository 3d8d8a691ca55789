/**
 * `npm run prebuildify`: makes prebuilds/<platform>-<arch>/ for the tarball, stripped, in a build folder of its own so that
 * the checkout's addons stay as they are. The verb is not `prebuild`: npm would run that before every `npm run build`.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, tool } from './run.js'

const folder = join(root, 'build', 'prebuild')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
rmSync(join(root, 'prebuilds', `${process.platform}-${process.arch}`), { recursive: true, force: true })

const options = ['--napi', '--strip', '--name', 'kvtier', '--cwd', folder, '--out', root, '--target', process.version]
// glibc and musl builds lie side by side; the loader takes the one that fits.
if (process.platform === 'linux') options.push('--tag-libc')
const ok = run(tool('prebuildify'), [...options, '--node-gyp', join(root, 'scripts', 'cmake-js-shim.js')])
process.exitCode = ok ? 0 : 1
