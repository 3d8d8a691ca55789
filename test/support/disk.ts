/** A manager that finds prompts on disk and nowhere else. */
import { BlockManager } from '../../lib/block-manager.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { testOptions, tokens, withDirectory } from './manager.ts'
import { store } from './slots.ts'

/** Enough that held I/O leaves threads for copies. */
export const THREADS = 8

/**
 * Stores `count` tokens of each seed on disk, then opens another manager there.
 *
 * @param changes - options of both managers
 */
export async function withDisk<T>(
  seeds: readonly number[],
  count: number,
  run: (manager: BlockManager, directory: string) => Promise<T>,
  changes: Partial<ManagerOptions> = {},
): Promise<T> {
  return await withDirectory(async (directory) => {
    const options = testOptions(directory, { engine: { threads: THREADS }, ...changes })
    const before = await BlockManager.open(options)
    for (const seed of seeds) {
      await store(before, before.sequence(tokens(seed, count), { tenant: 'a' }), { until: 'disk' })
    }
    await before.close()
    const manager = await BlockManager.open(options)
    try {
      return await run(manager, directory)
    } finally {
      await manager.close({ flush: false })
    }
  })
}
