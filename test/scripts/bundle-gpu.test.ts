/**
 * The bundle for GPU hosts, made from this checkout's build, unpacked elsewhere and run with nothing in the environment.
 * It takes a minute, so it runs with the tests of the package: `npm test -- --package`.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { root } from '../../scripts/run.js'

const MIB = 1024 * 1024
const minute = 60_000

let folder = ''
let bundle = ''
let made = ''

function runIn(program: string, args: readonly string[], env: NodeJS.ProcessEnv) {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: folder, encoding: 'utf8', env })
  return { code: status, stdout, output: `${stdout}${stderr}` }
}

/** Runs a command of the bundle where neither Node nor anything else is on the PATH. */
function runBundle(command: string, args: readonly string[], added: NodeJS.ProcessEnv = {}) {
  return runIn(join(bundle, command), args, { PATH: join(folder, 'empty'), ...added })
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-bundle-'))
  mkdirSync(join(folder, 'empty'))
  const make = runIn(process.execPath, [join(root, 'scripts', 'bundle-gpu.js'), '--out', folder], process.env)
  expect(make.code, make.output).toBe(0)
  made = make.output
  // What runs is what was in the archive, and its place is another one than where it was made.
  rmSync(join(folder, 'kvtier-gpu'), { recursive: true })
  mkdirSync(join(folder, 'another place'))
  bundle = join(folder, 'another place', 'kvtier-gpu')
  const unpack = ['-xzf', join(folder, 'kvtier-gpu.tar.gz'), '-C', join(folder, 'another place')]
  const { code, output } = runIn('tar', unpack, process.env)
  expect(code, output).toBe(0)
}, 5 * minute)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(process.platform !== 'linux')('the bundle', () => {
  test('has at most 60 MiB compressed, and its size is printed', () => {
    const { size } = statSync(join(folder, 'kvtier-gpu.tar.gz'))
    expect(size).toBeLessThanOrEqual(60 * MIB)
    expect(made).toContain(`kvtier-gpu.tar.gz: ${(size / MIB).toFixed(1)} MiB`)
    expect(made).toMatch(/needs glibc 2\.\d+; \d+ test files/)
  })

  test('says what the host offers', () => {
    const { code, stdout, output } = runBundle('kvtier', ['doctor', '--json'])
    expect(code, output).toBe(0)
    expect(JSON.parse(stdout).machine.cuda.state).toMatch(/^[a-z-]+$/)
  })

  test(
    'runs tests on the simulated driver',
    () => {
      const { code, output } = runBundle('run-tests', ['--only', 'simulated', 'gpu/engine'])
      expect(output).toMatch(/\n[1-9]\d* passed, 0 failed, 0 skipped\n$/)
      expect(code).toBe(0)
    },
    2 * minute,
  )

  test(
    'runs those for a real GPU with the driver that the host has, and says why they were skipped without one',
    () => {
      const absent = runBundle('run-tests', ['--only', 'gpu'], { KVTIER_CUDA_LIBRARY: '/nowhere.so' })
      expect(absent.output).toMatch(/skipped in gpu: test\/gpu\/\S+ \(no GPU: the driver is \S+\)/)
      expect(absent.output).toMatch(/\n0 passed, 0 failed, [1-9]\d* skipped\n$/)
      const simulated = join(bundle, 'build', 'testing', 'libkvtier_sim_cuda.so')
      const { output } = runBundle('run-tests', ['--only', 'gpu', 'engine'], { KVTIER_CUDA_LIBRARY: simulated })
      expect(output).toMatch(/\n[1-9]\d* passed, 0 failed, \d+ skipped\n$/)
    },
    2 * minute,
  )

  test('explains its commands and refuses what it has not', () => {
    for (const command of ['run-tests', 'run-bench', 'kvtier']) {
      const { code, output } = runBundle(command, ['--help'])
      expect(code, output).toBe(0)
      expect(output.length).toBeGreaterThan(100)
    }
    expect(runBundle('run-tests', ['--only', 'some'])).toMatchObject({ code: 1 })
    expect(runBundle('run-tests', ['no-such-file']).output).toContain('No test file has no-such-file in its path')
    linkSync(join(bundle, 'kvtier'), join(bundle, 'other'))
    expect(runBundle('other', [])).toMatchObject({ code: 2, output: expect.stringContaining('run-bench') })
  })
})

describe('the script', () => {
  test('prints its options, and says what is wrong with them', () => {
    const script = join(root, 'scripts', 'bundle-gpu.js')
    expect(runIn(process.execPath, [script, '--help'], process.env).output).toContain('--no-archive')
    const wrong = runIn(process.execPath, [script, '--limit', 'small'], process.env)
    expect(wrong).toMatchObject({ code: 1, output: "--limit takes a number of MiB, not 'small'.\n" })
    expect(runIn(process.execPath, [script, '--size', '3'], process.env)).toMatchObject({ code: 1 })
  })

  test('names what is not built', () => {
    mkdirSync(join(folder, 'unbuilt', 'scripts'), { recursive: true })
    for (const name of ['bundle-gpu.js', 'run.js', '../package.json']) {
      copyFileSync(join(root, 'scripts', name), join(folder, 'unbuilt', 'scripts', name))
    }
    const { code, output } = runIn(process.execPath, [join(folder, 'unbuilt/scripts/bundle-gpu.js')], process.env)
    expect(code).toBe(1)
    expect(output).toContain('run npm run build first:\n  build/Release/kvtier.node (the addon)\n')
    expect(output).not.toContain(' at ')
  })
})
