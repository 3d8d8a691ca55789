/** Fills host reservations and reads blocks back, for tests of callers without device pointers. */
import { expect } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import type { HostReservation } from '../../lib/movement/host-reservation.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import type { TransferResult } from '../../lib/movement/transfer.ts'
import { bytesOf } from './borrowed.ts'
import { THREADS } from './disk.ts'
import { TEST_STRIDE } from './manager.ts'

export const threads: { readonly engine: { readonly threads: number } } = { engine: { threads: THREADS } }

/** Bytes of block `i` of a prompt, of its own for each seed. */
export function blockOf(seed: number, i: number): Uint8Array {
  return bytesOf(seed * 1000 + i, TEST_STRIDE)
}

export function fillAll(reservation: HostReservation, seed: number): void {
  for (let i = 0; i < reservation.blockCount; i++) {
    if (reservation.needs(i)) reservation.window(i).set(blockOf(seed, reservation.firstBlock + i))
  }
}

export async function publish(
  manager: BlockManager,
  sequence: Sequence,
  seed: number,
  until: 'host' | 'disk' = 'host',
): Promise<TransferResult> {
  const reservation = await manager.host.reserve(sequence)
  fillAll(reservation, seed)
  return await reservation.publish({ until })
}

/** Loads what is held, checks every byte, and lets go; tokens that were right. */
export async function readBack(manager: BlockManager, sequence: Sequence, seed: number): Promise<number> {
  const reading = await manager.host.load(sequence)
  const count = reading.result.tokens / 4
  for (let i = 0; i < count; i++) {
    expect(Buffer.from(reading.window(i)).equals(blockOf(seed, i)), `block ${i}`).toBe(true)
  }
  reading.release()
  return reading.result.tokens
}
