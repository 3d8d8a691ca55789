import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Engine, ensureEngine, isEngineInstalled } from '../../scripts/engine.js'
import { capture, root } from '../../scripts/run.js'

/** What one machine's name for a registry would look like in a lockfile. */
const ADDRESS = /"resolved"|https?:\/\/[^"]*\.tgz/

let folder = ''

/** A program that stands where npm does, and the calls that were made of it. */
function npmThat(script: string): { npm: string; calls: () => string[] } {
  const npm = join(folder, 'npm')
  writeFileSync(npm, `#!/bin/sh\necho "$@" >> ${folder}/calls\n${script}\n`)
  chmodSync(npm, 0o755)
  const log = join(folder, 'calls')
  return { npm, calls: () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []) }
}

function ensure(npm: string): Engine {
  return ensureEngine({ folder, npm })
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-engine-'))
  mkdirSync(join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package-lock.json'), '{}')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe.runIf(process.platform === 'linux' && process.arch === 'x64')('the engine', () => {
  test('is installed once, without optional packages and install scripts, and again when its lockfile changes', () => {
    const { npm, calls } = npmThat('exit 0')
    expect(isEngineInstalled(folder)).toBe(false)
    expect(ensure(npm)).toEqual({ state: 'ready', installed: true })
    expect(calls()).toEqual([expect.stringMatching(/^ci --omit=optional --ignore-scripts /)])
    expect(ensure(npm)).toEqual({ state: 'ready', installed: false })
    expect(calls()).toHaveLength(1)
    writeFileSync(join(folder, 'package-lock.json'), '{ "name": "other" }')
    expect(isEngineInstalled(folder)).toBe(false)
    expect(ensure(npm)).toEqual({ state: 'ready', installed: true })
    expect(calls()).toHaveLength(2)
  })

  test('is unavailable where no registry answers, and asked for again the next time', () => {
    const { npm, calls } = npmThat('echo "npm error code ENOTFOUND" >&2; exit 1')
    const reason = 'node-llama-cpp is not installed, and no package registry can be reached.'
    expect(ensure(npm)).toEqual({ state: 'unavailable', reason })
    expect(ensure(npm).state).toBe('unavailable')
    expect(calls()).toHaveLength(2)
  })

  test('is a failure where npm fails for another reason, or is not there', () => {
    const { npm } = npmThat('echo "npm error code EINTEGRITY" >&2; exit 1')
    expect(ensure(npm)).toEqual({ state: 'failed', reason: expect.stringContaining('EINTEGRITY') })
    expect(ensure(join(folder, 'nowhere'))).toEqual({ state: 'failed', reason: expect.stringContaining('ENOENT') })
    expect(isEngineInstalled(folder)).toBe(false)
  })
})

test('the command says how it is used', () => {
  const { ok, output } = capture(process.execPath, [join(root, 'scripts', 'engine.js'), 'remove'])
  expect({ ok, output }).toEqual({ ok: false, output: 'usage: node scripts/engine.js install\n' })
})

test('the lockfiles name no registry', () => {
  for (const name of ['package-lock.json', 'test/engine/package-lock.json']) {
    expect(readFileSync(join(root, name), 'utf8')).not.toMatch(ADDRESS)
  }
})
