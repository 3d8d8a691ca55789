/**
 * Managers for tests: small tiers in a temporary directory, closed and removed whatever the test does.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BlockManager } from '../../lib/block-manager.ts'
import { PatternEngine } from '../../lib/cli/pattern-engine.ts'
import { blockBytesOf, defineLayout, type ModelLayout } from '../../lib/identity/model-layout.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { ownedDevice } from './device-kind.ts'

/** 4 tokens and 16 KiB a block. */
export const TEST_LAYOUT: ModelLayout = defineLayout({
  tokensPerBlock: 4,
  dtype: 'test',
  groups: [{ name: 'full', kind: 'full', layers: 2, bytesPerToken: 1024 }],
})

export const TEST_STRIDE: number = Math.ceil(blockBytesOf(TEST_LAYOUT) / 4096) * 4096

/** A directory that is gone after `run`. */
export async function withDirectory<T>(run: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'kvtier-test-'))
  try {
    return await run(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Options of a small manager: 32 device slots, 16 host blocks, 64 disk blocks. */
export function testOptions(directory: string | null, changes: Partial<ManagerOptions> = {}): ManagerOptions {
  return {
    layout: TEST_LAYOUT,
    model: 'test',
    device: ownedDevice(32),
    host: { capacityBytes: 16 * TEST_STRIDE },
    ...(directory === null ? {} : { disk: { directory, capacityBytes: 64 * (TEST_STRIDE + 128) } }),
    leaveLastBlock: false,
    ...changes,
  }
}

/** A manager that is closed after `run`. */
export async function withManager<T>(
  changes: Partial<ManagerOptions>,
  run: (manager: BlockManager, engine: PatternEngine, directory: string) => Promise<T>,
): Promise<T> {
  return await withDirectory(async (directory) => {
    const manager = await BlockManager.open(testOptions(directory, changes))
    try {
      return await run(manager, new PatternEngine(manager), directory)
    } finally {
      await manager.close({ flush: false })
    }
  })
}

/** `count` tokens that no other `seed` shares. */
export function tokens(seed: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => seed * 100_000 + i)
}
