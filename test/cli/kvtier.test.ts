import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { describe, expect, it } from 'vitest'

import { temporaryFolder } from '../support/folder.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COMMAND = process.env.KVTIER_COMMAND ?? join(ROOT, 'dist', 'cli', 'kvtier.js')

function kvtier(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [COMMAND, ...args], { encoding: 'utf8' })
}

describe.skipIf(!existsSync(COMMAND))('the built command', () => {
  it('can be run by its own name', () => {
    expect(readFileSync(COMMAND, 'utf8').startsWith('#!/usr/bin/env node\n')).toBe(true)
  })

  it('prints the version of its package, without loading an addon', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    const environment = { ...process.env, KVTIER_ADDON: '/nowhere.node' }
    const ran = spawnSync(process.execPath, [COMMAND, '--version'], { encoding: 'utf8', env: environment })
    expect([ran.status, ran.stdout, ran.stderr]).toEqual([0, `${version}\n`, ''])
  })

  it.each([
    [['inspekt'], 2, 'ERR_KV_USAGE'],
    [['inspect'], 2, 'ERR_KV_USAGE'],
    [['inspect', '/no/such/directory'], 1, 'ERR_KV_NOT_A_DIRECTORY'],
    [['verify', '/no/such/directory', '--json'], 1, 'ERR_KV_NOT_A_DIRECTORY'],
  ])('exits as main says: %j', (args, status, code) => {
    const ran = kvtier(...args)
    expect([ran.status, ran.stdout]).toEqual([status, ''])
    expect(ran.stderr).toContain(`(${code})`)
  })

  it('ends quietly when nobody reads its output', () => {
    const pipe = join(temporaryFolder(), 'pipe')
    execFileSync('mkfifo', [pipe])
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK)
    const writer = openSync(pipe, constants.O_WRONLY)
    closeSync(reader)
    const ran = spawnSync(process.execPath, [COMMAND, '--help'], {
      stdio: ['ignore', writer, 'pipe'],
      encoding: 'utf8',
    })
    closeSync(writer)
    expect([ran.status, ran.signal, ran.stderr]).toEqual([0, null, ''])
  })

  it('fails when its output cannot be written', () => {
    const full = openSync('/dev/full', 'w')
    const ran = spawnSync(process.execPath, [COMMAND, '--help'], { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' })
    closeSync(full)
    expect(ran.status).toBe(1)
  })
})
