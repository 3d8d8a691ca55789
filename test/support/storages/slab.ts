/** Slabs on disk. */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { binding, type OpenedSlab, type OpenedStore } from '../../../lib/native/binding.ts'
import { completions } from '../../../lib/native/completions.ts'
import { LAYOUT_KINDS } from '../../../lib/native/generated.ts'
import { flipBit } from '../files.ts'
import { closeQuietly } from './closing.ts'
import type { OpenedStorage, Opening, StorageKind, Way } from './kind.ts'
import { blockBytesOf, strideOf } from './lent-memory.ts'

const FINGERPRINT: Uint8Array = new Uint8Array(32).fill(7)

function readAt(file: string, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  const descriptor = openSync(file, 'r')
  try {
    if (readSync(descriptor, bytes, 0, length, at) !== length) throw new Error(`${file} ends before ${at + length}`)
  } finally {
    closeSync(descriptor)
  }
  return bytes
}

/** A slab in a store of its own. */
export async function openSlab(opening: Opening, direct = true): Promise<OpenedStorage> {
  const { place, shape, slotCount, keepOrphans, fingerprint = FINGERPRINT, group = 0 } = opening
  const store = await completions().call<OpenedStore>((ticket) => binding.startOpenStore(ticket, place, fingerprint))
  try {
    const { storage, contents } = await completions().call<OpenedSlab>((ticket) =>
      binding.startOpenSlab(ticket, store.store, group, shape, slotCount, direct, keepOrphans),
    )
    const file = join(store.path, `group-${group}.slab`)
    return {
      storage,
      contents,
      read: (slot) => readAt(file, slot * strideOf(shape), blockBytesOf(shape)),
      flip: (slot, byte) => flipBit(file, slot * strideOf(shape) + byte),
      close: async () => {
        await closeQuietly(storage)
        await closeQuietly(store.store)
      },
    }
  } catch (error) {
    await closeQuietly(store.store)
    throw error
  }
}

/** A slab, with or without the page cache between. */
export function slab(direct: boolean): StorageKind {
  return {
    name: `a slab (${direct ? 'direct' : 'buffered'})`,
    kind: 'slab',
    tier: 'disk',
    layout: null,
    into: LAYOUT_KINDS.map((other): Way => ({ path: 'memoryToSlab', other, via: 'none' })),
    outOf: LAYOUT_KINDS.flatMap((other): Way[] => [
      { path: 'slabToMemory', other, via: 'none' },
      { path: 'slabToMemoryVia', other, via: 'staging' },
      { path: 'slabToMemoryVia', other, via: 'slots' },
    ]),
    check: 'slabCheck',
    persistent: true,
    canBeFaulted: true,
    withoutRoom: 'ERR_KV_NO_SPACE',
    open: (opening) => openSlab(opening, direct),
  }
}
