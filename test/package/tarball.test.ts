/**
 * The tarball as a stranger gets it: packed from this checkout with its prebuilt addon (`npm run prebuildify` first),
 * installed in an empty folder without install scripts, imported, type-checked and, without the prebuilt addon, built.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { root } from '../../scripts/run.js'

const platform = `${process.platform}-${process.arch}`
const minute = 60_000
const buildTime = { timeout: 10 * minute }
/** Whether what takes longest is left out, as in CI. */
const brief = process.env.KVTIER_PACKAGE_TESTS === 'brief'

let folder = ''
let consumer = ''
let packed: string[] = []

/** The environment of a stranger: nothing of this checkout's. */
function strangersEnvironment(added: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(KVTIER_|NODE_OPTIONS|VITEST|npm_)/.test(name))
  return { ...Object.fromEntries(kept), ...added }
}

function runIn(where: string, program: string, args: string[], added: Record<string, string> = {}) {
  const result = spawnSync(program, args, { cwd: where, encoding: 'utf8', env: strangersEnvironment(added) })
  return { code: result.status, output: `${result.stdout}${result.stderr}` }
}

/** Runs an ES module in the consumer's folder. */
function runModule(source: string, added: Record<string, string> = {}) {
  return runIn(consumer, process.execPath, ['--input-type=module', '--eval', source], added)
}

const openAndClose = `
import { BlockManager, layoutOf } from 'kvtier'
const config = { model_type: 'llama', num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 64 }
const layout = layoutOf(config, { tokensPerBlock: 16, dtype: 'bf16' })
const manager = await BlockManager.open({ layout, model: 'tiny', host: { capacityBytes: 1 << 20 } })
await manager.close()
console.log('opened and closed')
`

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-package-'))
  consumer = join(folder, 'consumer')
  mkdirSync(consumer)
  const pack = runIn(root, 'npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder])
  expect(pack.code, pack.output).toBe(0)
  const list = runIn(folder, 'tar', ['-tzf', tarball()])
  packed = list.output
    .trim()
    .split('\n')
    .map((path) => path.replace(/^package\//, ''))
  writeFileSync(join(consumer, 'package.json'), JSON.stringify({ name: 'consumer', type: 'module', private: true }))
  const args = ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball()]
  const install = runIn(consumer, 'npm', args)
  expect(install.code, install.output).toBe(0)
}, 5 * minute)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function tarball(): string {
  const name = readdirSync(folder).find((file) => file.endsWith('.tgz'))
  if (name === undefined) throw new Error(`npm pack left no tarball in ${folder}`)
  return join(folder, name)
}

describe('what is in the tarball', () => {
  test('everything that runs, builds or explains the package is there', () => {
    const expected = [
      'package.json',
      'LICENSE',
      'README.md',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/kvtier.js',
      'CMakeLists.txt',
      'native/CMakeLists.txt',
      'native/binding/addon.cc',
      'scripts/install.js',
    ]
    expect(packed).toEqual(expect.arrayContaining(expected))
  })

  test('every source that a build here takes is there', () => {
    const { code, output } = runIn(root, 'git', ['ls-files', 'native', 'CMakeLists.txt', 'scripts/install.js'])
    expect(code, output).toBe(0)
    const sources = output.trim().split('\n')
    expect(sources.length).toBeGreaterThan(200)
    expect(sources.filter((path) => !packed.includes(path))).toEqual([])
  })

  test('this platform has exactly one prebuilt addon', () => {
    expect(packed.filter((path) => path.startsWith(`prebuilds/${platform}/`) && path.endsWith('.node'))).toHaveLength(1)
  })

  test('nothing else is: no tests, benchmarks, build folders or settings', () => {
    const allowed =
      /^(dist|native|prebuilds)\/|^(package\.json|LICENSE|README\.md|CMakeLists\.txt|scripts\/install\.js)$/
    expect(packed.filter((path) => !allowed.test(path))).toEqual([])
    expect(packed.filter((path) => /\/testing\/|\.test\.|_test\.|tsbuildinfo|node_modules/.test(path))).toEqual([])
  })
})

describe('the prebuilt addon', () => {
  const binary = (): string => {
    const path = packed.find((each) => each.startsWith(`prebuilds/${platform}/`) && each.endsWith('.node')) ?? ''
    return join(consumer, 'node_modules', 'kvtier', path)
  }

  test('is smaller than 1.5 MB, and loads', () => {
    const { size } = statSync(binary())
    const source = `
      import { createRequire } from 'node:module'
      const require = createRequire(import.meta.url)
      const started = performance.now()
      require(${JSON.stringify(binary())})
      console.log((performance.now() - started).toFixed(1))`
    const { code, output } = runModule(source)
    expect(code, output).toBe(0)
    console.log(`the prebuilt addon: ${size} bytes, loaded in ${output.trim()} ms`)
    expect(size).toBeLessThan(1_500_000)
  })

  test.skipIf(process.platform !== 'linux')('needs the C library and at most two of the compiler', () => {
    const { code, output } = runIn(folder, 'readelf', ['-d', binary()])
    expect(code, output).toBe(0)
    const needed = [...output.matchAll(/\(NEEDED\).*\[(.+?)\]/g)].map(([, name]) => name ?? '')
    console.log(`the prebuilt addon needs ${needed.join(', ')}`)
    expect(needed.filter((name) => !/^(libc|libm|libgcc_s|libstdc\+\+|ld-linux.*)\.so\b/.test(name))).toEqual([])
  })
})

describe('installed without install scripts', () => {
  test('the prebuilt addon is the only one, and a manager opens and closes with it', () => {
    expect(existsSync(join(consumer, 'node_modules', 'kvtier', 'build'))).toBe(false)
    const { code, output } = runModule(openAndClose, { PREBUILDS_ONLY: '1' })
    expect(output).toContain('opened and closed')
    expect(code).toBe(0)
  })

  test('the exports map offers the main entry, the connectors and package.json, and nothing else', () => {
    const source = `
      console.log(import.meta.resolve('kvtier').endsWith('/dist/index.js'))
      console.log(import.meta.resolve('kvtier/package.json').endsWith('/package.json'))
      // Without the engine, which is an optional peer.
      const { openNodeLlamaCpp } = await import('kvtier/connectors/node-llama-cpp')
      console.log(typeof openNodeLlamaCpp)
      await import('kvtier/dist/index.js').catch((error) => console.log(error.code))
    `
    expect(runModule(source).output.trim().split('\n')).toEqual([
      'true',
      'true',
      'function',
      'ERR_PACKAGE_PATH_NOT_EXPORTED',
    ])
  })

  test('the command runs from node_modules/.bin', () => {
    const { code, output } = runIn(consumer, join(consumer, 'node_modules', '.bin', 'kvtier'), ['--help'])
    expect(output).toContain('kvtier')
    expect(code).toBe(0)
  })

  test.each(['nodenext', 'bundler'])(
    'a strict TypeScript project with %s resolution compiles against the types',
    (way) => {
      writeFileSync(
        join(consumer, 'consumer.ts'),
        `import { BlockManager, type ErrorCode, KvError, layoutOf } from 'kvtier'
export async function open(config: unknown): Promise<BlockManager> {
  const layout = layoutOf(config, { tokensPerBlock: 16, dtype: 'bf16' })
  return await BlockManager.open({ layout, model: 'tiny', host: { capacityBytes: 1024 } })
}
export const code: ErrorCode = 'ERR_KV_IO'
export const error: KvError = new KvError(code, 'message')
// @ts-expect-error: a code that is not in the list
export const wrong: ErrorCode = 'ERR_KV_SOMETHING'
`,
      )
      const kind =
        way === 'bundler' ? ['--module', 'esnext', '--moduleResolution', 'bundler'] : ['--module', 'nodenext']
      const shape = [
        '--strict',
        '--noEmit',
        '--target',
        'es2023',
        '--lib',
        'es2023,esnext.disposable',
        '--types',
        'node',
      ]
      const types = ['--typeRoots', join(root, 'node_modules', '@types')]
      const tsc = join(root, 'node_modules', '.bin', 'tsc')
      const { code, output } = runIn(consumer, tsc, [...shape, ...types, ...kind, 'consumer.ts'])
      expect(output).toBe('')
      expect(code).toBe(0)
    },
  )
})

describe('the install script', () => {
  const installed = (): string => join(consumer, 'node_modules', 'kvtier')
  const script = (): string => join(installed(), 'scripts', 'install.js')

  test('does nothing where the prebuilt addon loads', () => {
    expect(runIn(installed(), process.execPath, [script()])).toEqual({ code: 0, output: '' })
    expect(existsSync(join(installed(), 'build'))).toBe(false)
  })

  test('says in one line what is missing where there is neither an addon nor a compiler', () => {
    const { code, output } = runIn(installed(), process.execPath, [script()], {
      PATH: folder,
      npm_config_platform: 'other',
    })
    expect(code).toBe(1)
    expect(output.trim().split('\n')).toHaveLength(1)
    expect(output).toContain('building one needs CMake and a C++20 compiler')
  })

  // CI's own `npm ci` has built one of the same sources, by the same script.
  const reason = brief ? ' (KVTIER_PACKAGE_TESTS=brief: npm test -- --package builds it)' : ''
  test.skipIf(brief)(`builds an addon from the tarball where there is no prebuilt one${reason}`, buildTime, () => {
    rmSync(join(installed(), 'prebuilds'), { recursive: true })
    const { code, output } = runIn(installed(), process.execPath, [script()])
    expect(code, output).toBe(0)
    expect(readdirSync(join(installed(), 'build', 'Release'))).toEqual(['kvtier.node'])
    expect(runModule(openAndClose).output).toContain('opened and closed')
  })
})
