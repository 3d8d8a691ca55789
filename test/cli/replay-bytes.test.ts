/** `kvtier replay --bytes` with the real addon: real blocks through real tiers. */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it, onTestFinished, vi } from 'vitest'

import { openNative } from '../../lib/cli/native-access.js'
import { KvError } from '../../lib/errors.js'
import { temporaryFolder } from '../support/folder.js'
import { type Ran, run } from './world.js'

/** Chats that grow by a block a turn, in turns: 20 chats, 6 turns. */
function growingChats(): string {
  const lines: string[] = []
  for (let turn = 1; turn <= 6; ++turn) {
    for (let chat = 0; chat < 20; ++chat) {
      const ids = Array.from({ length: turn + 1 }, (_, block) => (block === 0 ? 0 : chat * 100 + block))
      lines.push(JSON.stringify({ timestamp: lines.length, hash_ids: ids }))
    }
  }
  const path = join(temporaryFolder(), 'chats.jsonl')
  writeFileSync(path, `${lines.join('\n')}\n`)
  return path
}

const kvtier = (args: readonly string[], signal?: AbortSignal): Promise<Ran> =>
  run(['replay', ...args], { native: openNative, ...(signal === undefined ? {} : { signal }) })

/** A directory for temporary files that only this test uses. */
function ownTemporaryDirectory(): string {
  const folder = temporaryFolder()
  vi.stubEnv('TMPDIR', folder)
  onTestFinished(() => void vi.unstubAllEnvs())
  return folder
}

describe('kvtier replay --bytes', () => {
  it('hits exactly what the accounting says, and verifies every block that came back', async () => {
    const trace = growingChats()
    const accounted = JSON.parse((await kvtier([trace, '--capacity', '60', '--json'])).stdout)
    const { exitCode, stdout } = await kvtier([trace, '--bytes', '4KiB', '--host', '60', '--json'])
    expect(exitCode).toBe(0)
    const moved = JSON.parse(stdout)
    expect(moved.hits).toBe(accounted.hits)
    expect(moved.hits).toBeGreaterThan(0)
    expect(moved.capacityBlocks).toBe(60)
    expect(moved.tiers).toMatchObject([{ tier: 'host', capacityBlocks: 60, hits: moved.hits }])
    expect(moved.bytes).toMatchObject({ verifiedBlocks: moved.hits, wrongBlocks: 0, failedBlocks: 0 })
    expect(moved.bytes.onboarded).toBe(moved.hits * 4096)
  })

  it('takes --capacity as the host tier where --host is not given', async () => {
    const { stdout } = await kvtier([growingChats(), '--bytes', '4096', '--capacity', '50%', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({ uniqueBlocks: 121, capacityBlocks: 61, tiers: [{ tier: 'host' }] })
  })

  it('loads from disk what host memory lost, and removes its directory', async () => {
    const trace = growingChats()
    const folder = ownTemporaryDirectory()
    const { exitCode, stdout } = await kvtier([
      trace,
      ...['--bytes', '4096', '--host', '20', '--disk', '100%', '--json'],
    ])
    expect(exitCode).toBe(0)
    const { tiers, bytes, hits } = JSON.parse(stdout)
    expect(tiers.map((tier: { tier: string }) => tier.tier)).toEqual(['host', 'disk'])
    expect(tiers[1].hits).toBeGreaterThan(0)
    expect(bytes).toMatchObject({ verifiedBlocks: hits, wrongBlocks: 0 })
    expect(readdirSync(folder)).toEqual([])
  })

  it('says the same to people', async () => {
    const { stdout } = await kvtier([growingChats(), '--bytes', '4096', '--host', '121'])
    expect(stdout).toContain('blocks of 4 KiB, 121 different')
    expect(stdout).toMatch(/^wrong blocks: 0$/m)
    expect(stdout).toMatch(/^blocks verified: \d/m)
  })

  it('refuses a block size that no layout has', async () => {
    const { exitCode, stderr } = await kvtier([growingChats(), '--bytes', '5', '--host', '9'])
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('(ERR_KV_USAGE)')])
  })

  it('closes its tiers and removes its directory when it is interrupted', async () => {
    const trace = growingChats()
    const folder = ownTemporaryDirectory()
    const controller = new AbortController()
    const interrupt = { write: () => controller.abort(new KvError('ERR_KV_ABORTED', 'Interrupted.')) }
    const ran = await run(['replay', trace, '--bytes', '4096', '--host', '9', '--disk', '50'], {
      native: openNative,
      isTty: true,
      stderr: interrupt,
      signal: controller.signal,
    })
    expect([ran.exitCode, ran.stdout]).toEqual([130, ''])
    expect(readdirSync(folder)).toEqual([])
  })
})
