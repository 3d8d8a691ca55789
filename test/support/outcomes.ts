/** Short ways to look at what became of a transfer, and at a manager in which nothing is in flight. */
import { expect } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import type { TransferResult } from '../../lib/movement/transfer.ts'

/** Every block's code. */
export function codesOf(result: TransferResult): string[] {
  return Array.from({ length: result.blockCount }, (_, i) => result.code(i))
}

/** Every block's tier. */
export function tiersOf(result: TransferResult): string[] {
  return Array.from({ length: result.blockCount }, (_, i) => result.tier(i))
}

/** Nothing is in flight: no slot is filling or pinned, and the accounting is whole. */
export function expectQuiet(manager: BlockManager): void {
  manager.checkAccounting()
  const { tiers } = manager.stats()
  for (const [name, tier] of Object.entries(tiers)) {
    expect(tier, `the ${name} tier`).toMatchObject({ filling: 0, pinned: 0 })
    expect(tier.held + tier.free, `held and free slots of the ${name} tier`).toBe(tier.slots)
  }
}
