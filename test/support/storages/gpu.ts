/** Memory of the simulated driver's GPUs: allocated by the addon, or lent to it by the test. Looked at past every stream. */
import {
  binding,
  type DeviceRanges,
  type GroupShape,
  type LayoutKindName,
  type StorageHandle,
} from '../../../lib/native/binding.ts'
import { completions } from '../../../lib/native/completions.ts'
import { type Run, regionBytesOf, runsOf } from '../borrowed.ts'
import { sim } from '../sim-engine.ts'
import { closeQuietly } from './closing.ts'
import type { OpenedStorage, Opening, StorageKind } from './kind.ts'
import { blockBytesOf, strideOf } from './lent-memory.ts'

/** How device memory of the catalog lies. */
interface Placement {
  readonly layout: LayoutKindName
  /** Whether the parts of a block lie on a GPU each, where it has several. */
  readonly spread: boolean
}

function partOf(shape: GroupShape): GroupShape {
  return { ...shape, parts: 1 }
}

/** The GPUs of the parts; one where all lie on the same. */
function ordinalsOf({ parts }: GroupShape, { spread }: Placement): number[] {
  return spread && parts > 1 ? Array.from({ length: parts }, (_, part) => (part + 1) % 2) : [0]
}

/** Where the bytes of a slot lie; contiguous slots on several GPUs are contiguous slots of each part. */
function* runsIn(
  shape: GroupShape,
  layout: LayoutKindName,
  regions: number,
  slots: number,
  slot: number,
): Generator<Run> {
  if (layout !== 'contiguous' || regions === 1) return yield* runsOf(shape, layout, slots, slot)
  const length = blockBytesOf(partOf(shape))
  for (let region = 0; region < regions; region++) {
    yield { region, offset: slot * strideOf(partOf(shape)), at: region * length, length }
  }
}

/** The engine's allocations, one a region. */
function allocate({ shape, slotCount }: Opening, placement: Placement): DeviceRanges {
  const ordinals = ordinalsOf(shape, placement)
  const isSplit = placement.layout === 'contiguous' && ordinals.length > 1
  const sizes = isSplit
    ? ordinals.map(() => slotCount * strideOf(partOf(shape)))
    : regionBytesOf(shape, placement.layout, slotCount)
  const owners = sizes.map((_, region) => ordinals[Math.floor((region * ordinals.length) / sizes.length)] ?? 0)
  return {
    ordinals: Uint32Array.from(owners),
    addresses: BigUint64Array.from(sizes, (bytes, region) => sim.allocate(owners[region] ?? 0, Math.max(1, bytes))),
    bytes: Float64Array.from(sizes),
  }
}

function free({ ordinals, addresses }: DeviceRanges): void {
  for (const [region, address] of addresses.entries()) sim.free(ordinals[region] ?? 0, address)
}

function opened(
  { shape, slotCount }: Opening,
  { layout }: Placement,
  storage: StorageHandle,
  { addresses }: DeviceRanges,
  close: () => Promise<void>,
): OpenedStorage {
  const runs = (slot: number) => [...runsIn(shape, layout, addresses.length, slotCount, slot)]
  const addressOf = ({ region, offset }: Run): bigint => (addresses[region] ?? 0n) + BigInt(offset)
  return {
    storage,
    contents: null,
    read: (slot) => {
      const bytes = new Uint8Array(blockBytesOf(shape))
      for (const run of runs(slot)) bytes.set(sim.read(addressOf(run), run.length), run.at)
      return bytes
    },
    flip: (slot, byte) => {
      const run = runs(slot).find(({ at, length }) => byte >= at && byte < at + length)
      if (run === undefined) throw new Error(`a block has no byte ${byte}`)
      const address = addressOf(run) + BigInt(byte - run.at)
      sim.write(
        address,
        sim.read(address, 1).map((value) => value ^ 0x10),
      )
    },
    close,
  }
}

async function openOwned(opening: Opening, placement: Placement): Promise<OpenedStorage> {
  const { shape, slotCount } = opening
  const ordinals = Uint32Array.from(ordinalsOf(shape, placement))
  const storage = await completions().call<StorageHandle>((ticket) =>
    binding.startOpenDevice(ticket, ordinals, placement.layout, shape, slotCount),
  )
  return opened(opening, placement, storage, binding.deviceRanges(storage), () => closeQuietly(storage))
}

async function openLent(opening: Opening, placement: Placement): Promise<OpenedStorage> {
  const ranges = allocate(opening, placement)
  try {
    const storage = await completions().call<StorageHandle>((ticket) =>
      binding.startBorrowDevice(ticket, placement.layout, opening.shape, opening.slotCount, ranges),
    )
    let isLent = true
    return opened(opening, placement, storage, ranges, async () => {
      await closeQuietly(storage)
      if (isLent) free(ranges)
      isLent = false
    })
  } catch (error) {
    free(ranges)
    throw error
  }
}

const COMMON = {
  kind: 'device',
  tier: 'device',
  // Blocks stand in host slots on their way to a GPU and from it.
  into: [
    { path: 'memoryToMemory', other: 'host', via: 'none' },
    { path: 'slabToMemory', other: 'slab', via: 'none' },
    { path: 'slabToMemoryVia', other: 'slab', via: 'staging' },
    { path: 'slabToMemoryVia', other: 'slab', via: 'slots' },
  ],
  outOf: [
    { path: 'memoryToMemory', other: 'host', via: 'none' },
    { path: 'memoryToMemoryChecked', other: 'host', via: 'none' },
  ],
  check: null,
  persistent: false,
  canBeFaulted: false,
} as const satisfies Partial<StorageKind>

function kindOf(placement: Placement, isLent: boolean): StorageKind {
  const { layout, spread } = placement
  return {
    ...COMMON,
    name: `${isLent ? 'lent' : 'owned'} memory of ${spread ? 'GPUs, one a part' : 'a GPU'} (${layout})`,
    layout,
    withoutRoom: isLent ? null : 'ERR_KV_OUT_OF_MEMORY',
    open: (opening) => (isLent ? openLent(opening, placement) : openOwned(opening, placement)),
  }
}

/** A GPU's memory in every layout, owned and lent, each on one GPU and on several. */
export const GPU_STORAGES: readonly StorageKind[] = [
  kindOf({ layout: 'contiguous', spread: false }, false),
  kindOf({ layout: 'layersKvOuter', spread: true }, false),
  kindOf({ layout: 'layersKvInner', spread: false }, false),
  kindOf({ layout: 'contiguous', spread: true }, true),
  kindOf({ layout: 'layersKvOuter', spread: false }, true),
  kindOf({ layout: 'layersKvInner', spread: true }, true),
]
