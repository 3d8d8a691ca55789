/**
 * `npm run bundle-gpu`: one folder, and an archive of it, that runs kvtier's tests and benchmarks on a Linux host with a GPU
 * but without Node and network: ./run-tests, ./run-bench, ./kvtier. Run `npm run build` first.
 *
 * --out FOLDER   where kvtier-gpu/ and its archive go (default: build/bundle-gpu); both are replaced
 * --no-archive   only the folder
 * --limit MIB    the most that the archive may have (default: 60)
 * --help         prints these lines
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { capture, filesBelow, root, run, tool } from './run.js'

const NAME = 'kvtier-gpu'
const MIB = 1024 * 1024
const launchers = ['run-tests', 'run-bench', 'kvtier']

/** Built files that the bundle needs, with what they are. Others in build/testing come along where they are built. */
const needed = [
  ['build/Release/kvtier.node', 'the addon'],
  ['build/testing/kvtier_testing.node', "the tests' addon"],
  ['build/testing/libkvtier_sim_cuda.so', 'the simulated driver'],
  ['build/testing/limits.node', "the benchmarks' addon"],
  ['dist/cli/kvtier.js', 'the command'],
]

/** Tests of the bundle: those that have a GPU, simulated or real. */
const usesDevice = /support\/(sim-engine|cuda-memory)\.[jt]s'|\/driver\.ts'|KVTIER_CUDA_LIBRARY/

/** What of node_modules the tests and the addon's loader import; what those need themselves is found. */
const packages = ['vitest', 'fast-check', 'node-gyp-build']

/** Needed by packages, but by nothing that a test run does. */
const unneeded = new Set(['lightningcss', 'why-is-node-running', '@oxc-project/types'])

/** How the names of binaries end. */
const binaryEndings = ['node', '.so', '.so.0', '.so.1', '.so.6', 'kvtier_unit_tests']

/** What is in packages and never loaded. */
const deadWeight = /\.(d\.[cm]?ts|map|md|markdown|flow)$|\/(docs?|types|dts|browser)\/|LICENSE/i

class BundleError extends Error {}

/** @returns {string} the comment at the top of this file, as help */
function helpText() {
  const lines = readFileSync(join(root, 'scripts', 'bundle-gpu.js'), 'utf8').split('\n')
  const end = lines.indexOf(' */')
  return lines
    .slice(1, end)
    .map((line) => line.replace(/^ \* ?/, ''))
    .join('\n')
}

/** @param {string} program @param {string[]} args @returns {string} */
function must(program, args) {
  const { ok, output, ended } = capture(program, args)
  if (!ok) throw new BundleError(`${program} ${args.join(' ')} failed (${ended}):\n${output}`)
  return output
}

function checkBuilt() {
  if (process.platform !== 'linux') throw new BundleError('The bundle is made on Linux, for Linux.')
  const missing = needed.filter(([file = '']) => !existsSync(join(root, file)))
  if (missing.length === 0) return
  const list = missing.map(([file, what]) => `  ${file} (${what})`).join('\n')
  throw new BundleError(`Not built yet, run npm run build first:\n${list}`)
}

/**
 * The folders of packages and of all that they need, relative to the root.
 *
 * @param {readonly string[]} names
 * @returns {string[]}
 */
function packageFolders(names) {
  /** @type {Set<string>} */
  const found = new Set()
  /** @param {string} name @param {string} from @param {boolean} optional */
  const add = (name, from, optional) => {
    if (unneeded.has(name)) return
    const folder = findPackage(name, from)
    if (folder === null) {
      if (optional) return
      throw new BundleError(`${name}, which ${basename(from)} needs, is not in node_modules: run npm install first.`)
    }
    if (found.has(folder)) return
    found.add(folder)
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    )
    for (const each of Object.keys(optionalDependencies)) add(each, folder, true)
    for (const each of Object.keys(dependencies)) if (!(each in optionalDependencies)) add(each, folder, false)
  }
  for (const name of names) add(name, root, false)
  return [...found].sort()
}

/** @param {string} name @param {string} from @returns {string | null} as Node finds it */
function findPackage(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name)
    if (existsSync(join(candidate, 'package.json'))) return candidate
    if (folder === root || folder === dirname(folder)) return null
  }
}

/** @param {string} target */
function copyPackages(target) {
  const folders = packageFolders(packages)
  for (const folder of folders) {
    cpSync(realpathSync(folder), join(target, relative(root, folder)), {
      recursive: true,
      // A package inside another one is in the list itself.
      filter: (source) => {
        const inside = relative(realpathSync(folder), source)
        return !inside.split('/').includes('node_modules') && !deadWeight.test(`/${inside}`)
      },
    })
  }
  return folders.length
}

/** @param {string} target @param {string} folder @param {(path: string) => boolean} [keep] */
function copyTree(target, folder, keep = () => true) {
  cpSync(join(root, folder), join(target, folder), { recursive: true, filter: (source) => keep(source) })
}

/** @param {string} target @returns {string[]} every binary in the bundle's build folder and its Node */
function copyBinaries(target) {
  /** @type {[string, string][]} */
  const files = [[process.execPath, 'bin/node']]
  for (const file of filesBelow(root, ['build/Release', 'build/testing'], ['.node', '.so', 'kvtier_unit_tests'])) {
    files.push([join(root, file), file])
  }
  for (const [from, to] of files) {
    mkdirSync(dirname(join(target, to)), { recursive: true })
    copyFileSync(realpathSync(from), join(target, to))
    chmodSync(join(target, to), 0o755)
  }
  return files.map(([, to]) => to)
}

/**
 * Shared libraries that a host may lack. The C++ runtime is used only where the host has none that Node runs with: its own
 * may be newer, and drivers use it as well.
 *
 * @param {string} target
 * @param {readonly string[]} binaries
 */
function copyLibraries(target, binaries) {
  for (const binary of binaries) {
    const listed = capture('ldd', [join(target, binary)]).output
    for (const [, name = '', path = ''] of listed.matchAll(/^\s*(\S+) => (\/\S+)/gm)) {
      const isRuntime = /^lib(stdc\+\+|gcc_s|atomic)\.so/.test(name)
      if (/^lib(c|m|dl|rt|pthread|kvtier_\w+)\.so/.test(name)) continue
      const folder = join(target, 'libraries', isRuntime ? 'runtime' : 'always')
      mkdirSync(folder, { recursive: true })
      copyFileSync(realpathSync(path), join(folder, name))
    }
  }
}

/** @param {string} target */
function strip(target) {
  for (const file of filesBelow(target, ['bin', 'build', 'libraries', 'node_modules'], binaryEndings)) {
    must('strip', ['--strip-unneeded', join(target, file)])
  }
}

/** @param {string} target @returns {string} the newest C library that a binary of the bundle asks for, '2.34' */
function glibcNeeded(target) {
  let newest = 0
  for (const file of filesBelow(target, ['bin', 'build', 'libraries/always', 'node_modules'], binaryEndings)) {
    const { output } = capture('readelf', ['--version-info', '--wide', join(target, file)])
    for (const [, minor] of output.matchAll(/GLIBC_2\.(\d+)/g)) newest = Math.max(newest, Number(minor))
  }
  return `2.${newest}`
}

/** @returns {string[]} test files that the bundle runs on the simulated driver */
function deviceTests() {
  return filesBelow(root, ['test'], ['.test.ts']).filter(
    (file) => !file.startsWith('test/scripts/') && usesDevice.test(readFileSync(join(root, file), 'utf8')),
  )
}

/** @param {string} target */
function writeDescription(target) {
  const { name, version, type } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(target, 'package.json'), `${JSON.stringify({ name, version, type, private: true })}\n`)
  const commit = capture('git', ['rev-parse', '--short', 'HEAD'])
  const tests = deviceTests()
  const description = {
    version,
    commit: commit.ok ? commit.output.trim() : null,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    glibc: glibcNeeded(target),
    simulated: tests,
    gpu: tests.filter((file) => file.startsWith('test/gpu/')),
  }
  writeFileSync(join(target, 'bundle.json'), `${JSON.stringify(description, null, 2)}\n`)
  return description
}

/** @param {string} target */
function makeFolder(target) {
  rmSync(target, { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  if (!run(tool('tsc'), ['--project', join(root, 'bench')])) throw new BundleError('bench/ does not compile.')
  const binaries = copyBinaries(target)
  copyLibraries(target, binaries)
  for (const folder of ['dist', 'lib', 'build/bench']) copyTree(target, folder)
  copyTree(target, 'test', (path) => !/\.(cc|h|cu|map)$|\/test\/native$/.test(path))
  for (const file of ['scripts/run.js', 'scripts/results.js', 'scripts/native-tests.js']) {
    mkdirSync(dirname(join(target, file)), { recursive: true })
    copyFileSync(join(root, file), join(target, file))
  }
  copyTree(target, 'scripts/bundle-gpu')
  for (const name of launchers) {
    copyFileSync(join(root, 'scripts/bundle-gpu/launch.sh'), join(target, name))
    chmodSync(join(target, name), 0o755)
  }
  copyPackages(target)
  strip(target)
  return writeDescription(target)
}

/** @param {string} out @param {number} limitBytes @returns {string} the archive */
function makeArchive(out, limitBytes) {
  for (const [ending, program] of [
    ['.tar.gz', 'gzip -6'],
    ['.tar.xz', 'xz -6 -T0'],
  ]) {
    const archive = join(out, `${NAME}${ending}`)
    must('tar', ['--create', '--file', archive, '--use-compress-program', program ?? '', '--directory', out, NAME])
    const { size } = statSync(archive)
    console.log(`${archive}: ${(size / MIB).toFixed(1)} MiB`)
    if (size <= limitBytes) return archive
    rmSync(archive)
  }
  throw new BundleError(`The archive is larger than ${limitBytes / MIB} MiB.`)
}

function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'build/bundle-gpu' },
      'no-archive': { type: 'boolean', default: false },
      limit: { type: 'string', default: '60' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(helpText())
    return
  }
  const limit = Number(values.limit)
  if (!(limit > 0)) throw new BundleError(`--limit takes a number of MiB, not '${values.limit}'.`)
  checkBuilt()
  const out = resolve(root, values.out)
  const target = join(out, NAME)
  const { glibc, simulated, gpu } = makeFolder(target)
  console.log(
    `${target}: needs glibc ${glibc}; ${simulated.length} test files, ${gpu.length} of them also for a real GPU`,
  )
  if (!existsSync(join(target, 'build/testing/kvtier_unit_tests'))) {
    console.log('The native unit tests are not built and not in it: install doctest and xxhash, then npm run build.')
  }
  for (const old of ['.tar.gz', '.tar.xz']) rmSync(join(out, NAME + old), { force: true })
  if (!values['no-archive']) makeArchive(out, limit * MIB)
}

try {
  main()
} catch (error) {
  if (!(error instanceof BundleError) && !(error instanceof TypeError && 'code' in error)) throw error
  console.error(error.message)
  process.exitCode = 1
}
