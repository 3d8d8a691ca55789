/** `kvtier replay --device cuda`, and `doctor --recalibrate`, on the simulated driver. */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { openNative } from '../../lib/cli/native-access.js'
import { isSimulated } from '../../lib/tiers/cuda.js'
import { temporaryFolder } from '../support/folder.js'
import { expectNoViolations, sim } from '../support/sim-engine.js'
import { type Ran, run } from './world.js'

const kvtier = (args: readonly string[]): Promise<Ran> => run(args, { native: openNative })

/** Chats that grow by a block a turn. */
function growingChats(): string {
  const requests = Array.from({ length: 60 }, (_, i) => {
    const chat = i % 12
    return Array.from({ length: Math.floor(i / 12) + 2 }, (_, block) => (block === 0 ? 0 : chat * 100 + block))
  })
  const path = join(temporaryFolder(), 'chats.jsonl')
  writeFileSync(path, `${requests.map((ids, i) => JSON.stringify({ timestamp: i, hash_ids: ids })).join('\n')}\n`)
  return path
}

it('computes blocks in a GPU’s memory, and gets every byte back from host memory and disk', async () => {
  const trace = growingChats()
  const sizes = ['--bytes', '16KiB', '--host', '10', '--disk', '100%', '--json']
  const plain = JSON.parse((await kvtier(['replay', trace, ...sizes])).stdout)
  const { exitCode, stdout, stderr } = await kvtier(['replay', trace, '--device', 'cuda', ...sizes])
  expect([exitCode, stderr]).toEqual([0, ''])
  const moved = JSON.parse(stdout)
  expect(moved.bytes).toMatchObject({ verifiedBlocks: moved.hits, wrongBlocks: 0, failedBlocks: 0 })
  expect(moved.tiers).toEqual(plain.tiers)
  expect(moved.tiers[1].hits).toBeGreaterThan(0)
  expect(sim.count('allocated_bytes')).toBe(0)
  expectNoViolations()
})

it('measures the other GPUs where one cannot be measured, and says what that one failed with', async () => {
  vi.stubEnv('XDG_CACHE_HOME', temporaryFolder())
  sim.failCall('cuMemHostRegister', 1, 2, 1)
  const { exitCode, stdout } = await kvtier(['doctor', '--recalibrate', '--json'])
  sim.failNothing()
  vi.unstubAllEnvs()
  expect(exitCode).toBe(1)
  const [first, second] = JSON.parse(stdout).copies
  expect(first).toMatchObject({ ordinal: 0, kept: false, copies: [], failure: expect.stringContaining('device 0') })
  expect(second).toMatchObject({ ordinal: 1, kept: true, failure: null })
  expect(second.copies.length).toBeGreaterThan(0)
  expectNoViolations()
})

it('measures every GPU when it is asked to, and keeps the result', async () => {
  const folder = temporaryFolder()
  vi.stubEnv('XDG_CACHE_HOME', folder)
  const { exitCode, stdout } = await kvtier(['doctor', '--recalibrate', '--json'])
  vi.unstubAllEnvs()
  expect(exitCode).toBe(0)
  const { copies } = JSON.parse(stdout)
  expect(copies.map(({ ordinal, kept }: { ordinal: number; kept: boolean }) => [ordinal, kept])).toEqual([
    [0, true],
    [1, true],
  ])
  for (const { name, copies: cells } of copies) {
    expect(isSimulated(name)).toBe(true)
    expect(cells.length).toBeGreaterThan(0)
    for (const cell of cells) expect(cell.gbPerS).toBeGreaterThan(0)
  }
  expect(readdirSync(join(folder, 'kvtier')).length).toBe(2)
  expectNoViolations()
})
