import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { KvError } from '../../lib/errors.js'
import type { ProbeResult } from '../../lib/native/binding.js'
import { temporaryFolder } from '../support/folder.js'
import { run } from './world.js'

/** A trace file of requests given by their block ids. */
function traceFile(requests: readonly (readonly number[])[], folder: string = temporaryFolder()): string {
  const path = join(folder, 'tiny.jsonl')
  const lines = requests.map((ids, request) => JSON.stringify({ timestamp: request * 10, hash_ids: ids }))
  writeFileSync(path, `${lines.join('\n')}\n`)
  return path
}

/** 12 references, 6 different blocks; with room for all of them, 6 hits. */
const REQUESTS = [[0, 1, 2], [0, 1, 3], [4, 5], [0, 1, 2], [4]]

describe('kvtier replay', () => {
  it('counts the hits of a trace exactly', async () => {
    const { exitCode, stdout, stderr } = await run(['replay', traceFile(REQUESTS), '--capacity', '100%', '--json'])
    expect([exitCode, stderr]).toEqual([0, ''])
    const result = JSON.parse(stdout)
    const { eventLoopDelayMs, ...rest } = result
    expect(rest).toEqual({
      trace: 'tiny',
      requests: 5,
      references: 12,
      uniqueBlocks: 6,
      capacityBlocks: 6,
      policy: 'lru',
      hits: 6,
      hitRatePercent: 50,
      tiers: [{ tier: 'host', capacityBlocks: 6, hits: 6, hitRatePercent: 50 }],
      bytes: { offloaded: 0, onboarded: 0, verifiedBlocks: 0, wrongBlocks: 0, failedBlocks: 0 },
    })
    for (const name of ['p50', 'p99', 'max']) expect(eventLoopDelayMs[name]).toBeGreaterThanOrEqual(0)
  })

  it.each([
    ['3', 3, 3],
    ['50%', 3, 3],
    ['4', 4, 5],
    ['1%', 1, 1],
    ['1000000', 1_000_000, 6],
  ])('takes a capacity of %s as %d blocks', async (capacity, blocks, hits) => {
    const { stdout } = await run(['replay', traceFile(REQUESTS), '--capacity', capacity, '--json'])
    expect(JSON.parse(stdout)).toMatchObject({ capacityBlocks: blocks, hits })
  })

  it('says the same to people', async () => {
    const { stdout } = await run(['replay', traceFile(REQUESTS), '--capacity', '6', '--policy', 'fifo'])
    expect(stdout).toContain('tiny: 5 requests, 12 blocks, 6 different\n')
    expect(stdout).toMatch(/^host +6 +100\.00 % +6 +50\.00 %$/m)
    expect(stdout).toContain('hit rate with fifo: 50.00 %\n')
    expect(stdout).not.toContain('verified')
  })

  it('finds a trace from the current directory', async () => {
    const folder = temporaryFolder()
    traceFile(REQUESTS, folder)
    expect((await run(['replay', 'tiny.jsonl', '--capacity', '6'], { cwd: folder })).exitCode).toBe(0)
  })

  it('shows how far it is on a terminal', async () => {
    const ids = Array.from({ length: 70_000 }, (_, id) => id)
    const { stderr } = await run(['replay', traceFile([ids, ids]), '--capacity', '10'], { isTty: true })
    expect(stderr).toContain('replaying requests: 1 of 2, 50 %')
    expect(stderr.endsWith('\r\u001b[2K')).toBe(true)
  })

  it('ends with 130 when it is interrupted', async () => {
    const controller = new AbortController()
    controller.abort(new KvError('ERR_KV_ABORTED', 'Interrupted.'))
    const ran = await run(['replay', traceFile(REQUESTS), '--capacity', '6'], { signal: controller.signal })
    expect([ran.exitCode, ran.stdout]).toEqual([130, ''])
  })

  it.each([
    ['no capacity', [], 2, 'ERR_KV_USAGE', 'needs --capacity'],
    ['a wrong capacity', ['--capacity', '0%'], 2, 'ERR_KV_USAGE', '--capacity must be a share'],
    ['a host tier without bytes', ['--capacity', '5', '--host', '5'], 2, 'ERR_KV_USAGE', '--host is about real blocks'],
    ['a disk tier without bytes', ['--capacity', '5', '--disk', '5'], 2, 'ERR_KV_USAGE', '--disk is about real blocks'],
    ['a device without bytes', ['--capacity', '5', '--device', 'host'], 2, 'ERR_KV_USAGE', '--device is about'],
    ['bytes without a host tier', ['--bytes', '64KiB', '--disk', '5'], 2, 'ERR_KV_USAGE', 'needs --host'],
    ['an unknown device', ['--capacity', '5', '--device', 'tpu'], 2, 'ERR_KV_USAGE', 'one of host, cuda'],
    ['an unknown policy', ['--capacity', '5', '--policy', 'mru'], 1, 'ERR_KV_UNKNOWN_POLICY', '"mru"'],
  ])('refuses %s before it reads the trace', async (_, options, exitCode, code, message) => {
    const ran = await run(['replay', '/no/such/trace', ...options])
    expect([ran.exitCode, ran.stdout]).toEqual([exitCode, ''])
    expect(ran.stderr).toContain(`(${code})`)
    expect(ran.stderr).toContain(message)
  })

  it('refuses a GPU before it reads the trace where none can be used, and says why', async () => {
    const cuda = { available: false, reason: 'there is no driver.' }
    const options = ['--capacity', '5', '--bytes', '4096', '--device', 'cuda']
    const ran = await run(['replay', '/no/such/trace', ...options], {
      fake: { probe: async () => ({ cuda }) as ProbeResult },
    })
    expect([ran.exitCode, ran.stdout]).toEqual([1, ''])
    expect(ran.stderr).toContain('(ERR_KV_UNSUPPORTED)')
    expect(ran.stderr).toContain('there is no driver. Use --device host.')
  })

  it.each([
    ['a file that is missing', null, 'ERR_KV_UNKNOWN_TRACE'],
    ['a file that is no trace', 'hello\n', 'ERR_KV_UNKNOWN_TRACE'],
    ['a trace with a bad line', '{"hash_ids":[1]}\n{"hash_ids":[-1]}\n', 'ERR_KV_BAD_TRACE_LINE'],
  ])('names %s by its code', async (_, text, code) => {
    const path = join(temporaryFolder(), 'trace.jsonl')
    if (text !== null) writeFileSync(path, text)
    const { exitCode, stdout, stderr } = await run(['replay', path, '--capacity', '5', '--json'])
    expect([exitCode, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`(${code})`)
  })
})
