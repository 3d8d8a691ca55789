/**
 * Runs when the package is installed: does nothing where a prebuilt addon loads, builds one where none does, and says in
 * one line what is missing where it cannot. The package also works where npm runs no install scripts, as long as it
 * brings a prebuilt addon for the platform.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(fileURLToPath(new URL('..', import.meta.url)))
const require = createRequire(import.meta.url)
const isCheckout = existsSync(join(root, 'test')) || existsSync(join(root, '.git'))
const testAddon = join(root, 'build', 'testing', 'kvtier_testing.node')

/** In a process of its own, so that a broken addon ends that one. */
function addonLoads() {
  const loader = JSON.stringify(require.resolve('node-gyp-build'))
  const result = spawnSync(process.execPath, ['-e', `require(${loader})(${JSON.stringify(root)})`], { stdio: 'ignore' })
  return result.status === 0
}

/** @param {string} program @param {string[]} args @param {string} [input] */
function succeeds(program, args, input = '') {
  return spawnSync(program, args, { input, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0
}

function hasCompiler() {
  const program = '#include <span>\n#include <concepts>\ntemplate <std::integral T> T twice(T x) { return x + x; }\n'
  const compilers = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
  return compilers.some((compiler) => succeeds(compiler, ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], program))
}

/** The command that brings the tools, in the words of this machine's package manager. */
function howToInstall() {
  if (process.platform === 'darwin') return 'xcode-select --install && brew install cmake'
  let release = ''
  try {
    release = readFileSync('/etc/os-release', 'utf8')
  } catch {
    // Not every system has the file; the general words below are for those.
  }
  if (/^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release)) return 'apt-get install cmake make g++'
  if (/^ID(_LIKE)?=.*(fedora|rhel|centos)/m.test(release)) return 'dnf install cmake make gcc-c++'
  if (/^ID(_LIKE)?=.*alpine/m.test(release)) return 'apk add cmake make g++ linux-headers'
  if (/^ID(_LIKE)?=.*arch/m.test(release)) return 'pacman -S cmake make gcc'
  return 'install CMake 3.18 or later, make and g++ 12 or later'
}

/** @param {string} message */
function fail(message) {
  console.error(`kvtier: ${message}`)
  process.exit(1)
}

function build() {
  const platform = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux' && process.platform !== 'darwin') {
    fail(`there is no native addon for ${platform}; kvtier runs on Linux and macOS.`)
  }
  const missing = []
  if (!succeeds(process.env.CMAKE ?? 'cmake', ['--version'])) missing.push('CMake')
  if (!hasCompiler()) missing.push('a C++20 compiler')
  if (missing.length > 0) {
    const again = isCheckout ? 'npm run build' : 'npm rebuild kvtier'
    fail(
      `no prebuilt addon loads on ${platform}, and building one needs ${missing.join(' and ')}: ` +
        `${howToInstall()}; then ${again}.`,
    )
  }
  const command = isCheckout
    ? [join(root, 'scripts', 'build.js'), '--native']
    : [require.resolve('cmake-js/bin/cmake-js'), 'compile', '--directory', root]
  const result = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' })
  if (result.status !== 0) fail(`the native addon could not be built on ${platform}; the compiler's words are above.`)
  if (!addonLoads()) fail(`the addon was built, but it does not load; try: node -e "require('node-gyp-build')('.')"`)
}

if (!addonLoads() || (isCheckout && !existsSync(testAddon))) build()
