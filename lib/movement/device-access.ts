/**
 * Owned device memory for the engine to compute into.
 */
import type { BorrowedCudaDevice, CudaIpcRegion } from '../device-options.js'
import { integer, invalidValue, KvError } from '../errors.js'
import type { LayoutKindName, StorageHandle } from '../native/binding.js'
import { DEVICE } from '../tiers/types.js'
import { type GroupTiers, groupNamed, type MovementContext, storageOf, sweepExpired } from './context.js'
import { DeviceSlots } from './device-slots.js'
import { giveBackRoom, takeRoomNow } from './room.js'
import { deviceIsOwned } from './sequence.js'

/** A range of a GPU's memory in this process. */
export interface DeviceRegion {
  readonly pointer: bigint
  readonly bytes: number
  readonly ordinal: number
}

const HANDLE_BYTES = 64

/** `manager.device`. */
export class DeviceAccess {
  readonly #context: MovementContext

  /** @internal */
  constructor(context: MovementContext) {
    this.#context = context
  }

  /**
   * Takes device slots for new blocks, evicting device blocks where that makes room. Compute into them, hand them to
   * `sequence.offload({ from })`, and release them when the engine no longer uses them. A slot holds one block until the
   * release: what was offloaded from it is not to be written over (see {@link DeviceSlots}). The engine may have released
   * them a moment ago: work of its own that still uses them must lie before the work that writes them.
   *
   * @param blockCount - blocks of every layer group
   * @throws KvError ERR_KV_OUT_OF_BLOCKS when fewer can be had now (nothing is taken then); ERR_KV_UNSUPPORTED without
   * owned device memory; ERR_KV_DEVICE_LOST; ERR_KV_CLOSED; ERR_KV_INVALID_VALUE
   */
  reserve(blockCount: number): DeviceSlots {
    const context = this.#context
    context.checkOpen()
    integer('blockCount', blockCount, 1, 0x7fffffff)
    if (!deviceIsOwned(context)) invalidValue('device', 'owned by kvtier to reserve slots of it', 'borrowed')
    const { failure } = context.device
    if (failure !== null) throw new KvError(failure.code, `Device slots were to be reserved: ${failure.message}`)
    for (const tiers of context.groups) {
      sweepExpired(context, tiers)
      const { free, evictable } = tiers.blocks.counts(DEVICE)
      if (free + evictable < blockCount) tooMany(tiers, blockCount, free + evictable)
    }
    const taken: number[][] = []
    for (const tiers of context.groups) {
      const slots = takeRoomNow(context, tiers, DEVICE, blockCount, 0)
      taken.push(slots)
      if (slots.length === blockCount) continue
      // Blocks in front of pinned ones stay as well; the pins of prefixes leave none such.
      for (const [index, each] of taken.entries()) {
        const group = context.groups[index]
        if (group !== undefined) giveBackRoom(group, DEVICE, each)
      }
      tooMany(tiers, blockCount, slots.length)
    }
    const slots = taken.map((each) => Uint32Array.from(each))
    const entries = slots.map((each) => new Int32Array(each.length).fill(-1))
    return new DeviceSlots(context, { slots, entries, hashes: null })
  }

  /**
   * Where the device memory of a layer group is, for engines and addons of this process, in the order of the manager's
   * layout: one region for `contiguous` (on several GPUs one a part), otherwise one a part and layer. The addresses are
   * good until the manager is closed. In them a slot's bytes belong to whoever holds the slot: a reservation, or the pin of
   * an onboard.
   *
   * @param group - the layer group's name; may be left out when the model has one group
   * @throws KvError ERR_KV_UNSUPPORTED without owned device memory of kind `cuda`; ERR_KV_CLOSED; ERR_KV_INVALID_VALUE
   */
  regions(group?: string): DeviceRegion[] {
    const tiers = groupNamed(this.#context, group)
    const { ordinals, addresses, bytes } = this.#context.binding.deviceRanges(this.#ownedCuda(tiers).storage)
    return Array.from(addresses, (pointer, i) => ({ pointer, bytes: bytes[i] ?? 0, ordinal: ordinals[i] ?? 0 }))
  }

  /**
   * The same for another process of this machine: what a manager there takes as its option `device`, however it gets
   * there (the handles are bytes, the rest numbers and strings). That manager must be closed before this one is. What is
   * in a slot, and when, the two processes agree on between themselves.
   *
   * @throws KvError ERR_KV_UNSUPPORTED without owned device memory of kind `cuda`, and where the driver cannot share it;
   * ERR_KV_DEVICE_LOST; ERR_KV_CLOSED
   */
  share(): BorrowedCudaDevice {
    const regions: Record<string, CudaIpcRegion[]> = {}
    let device = { slots: 0, layout: 'contiguous' } as Pick<BorrowedCudaDevice, 'slots' | 'layout'>
    for (const tiers of this.#context.groups) {
      const { storage, slots, layout } = this.#ownedCuda(tiers)
      device = { slots, layout }
      const { owner, uuids, handles, offsets, bytes } = this.#context.binding.shareDevice(storage)
      regions[tiers.group.name] = uuids.map((uuid, i) => ({
        ipc: handles.slice(i * HANDLE_BYTES, (i + 1) * HANDLE_BYTES),
        offset: offsets[i] ?? 0,
        bytes: bytes[i] ?? 0,
        ...(uuid === '' ? {} : { uuid }),
        ...(owner === 0 ? {} : { pid: owner }),
      }))
    }
    return { kind: 'cuda', ...device, regions }
  }

  #ownedCuda(tiers: GroupTiers): { storage: StorageHandle; slots: number; layout: LayoutKindName } {
    this.#context.checkOpen()
    const { storage, slotCount, accounted, cuda } = tiers.tiers[DEVICE]
    if (storage === null || !accounted || cuda === null) {
      throw new KvError(
        'ERR_KV_UNSUPPORTED',
        "Addresses of device memory were asked for, but the manager owns none of kind 'cuda'; open it with `device: { kind: " +
          "'cuda', slots }`.",
      )
    }
    return { storage, slots: slotCount, layout: cuda.layout }
  }

  /** @internal The storage of a layer group, for engines of our own in demos, replays and tests. */
  storage(group = 0): StorageHandle {
    const tiers = this.#context.groups[group]
    if (tiers === undefined)
      throw new KvError('ERR_KV_INTERNAL', `The device storage of layer group ${group} was asked for.`)
    return storageOf(tiers, DEVICE)
  }
}

function tooMany(tiers: GroupTiers, asked: number, there: number): never {
  throw new KvError(
    'ERR_KV_OUT_OF_BLOCKS',
    `${asked} device slots of layer group ${tiers.group.name} were asked for; ${there} are free or evictable. ` +
      'Release pins and reservations, or open the manager with more device slots.',
  )
}
