/**
 * Owned device memory for the engine to compute into.
 */
import { integer, invalidValue, KvError } from '../errors.js'
import type { StorageHandle } from '../native/binding.js'
import { DEVICE } from '../tiers/types.js'
import { type GroupTiers, type MovementContext, storageOf, sweepExpired } from './context.js'
import { DeviceSlots } from './device-slots.js'
import { giveBackRoom, takeRoomNow } from './room.js'
import { deviceIsOwned } from './sequence.js'

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
   * release: what was offloaded from it is not to be written over (see {@link DeviceSlots}).
   *
   * @param blockCount - blocks of every layer group
   * @throws KvError ERR_KV_OUT_OF_BLOCKS when fewer can be had now (nothing is taken then); ERR_KV_UNSUPPORTED without
   * owned device memory; ERR_KV_CLOSED; ERR_KV_INVALID_VALUE
   */
  reserve(blockCount: number): DeviceSlots {
    const context = this.#context
    context.checkOpen()
    integer('blockCount', blockCount, 1, 0x7fffffff)
    if (!deviceIsOwned(context)) invalidValue('device', 'owned by kvtier to reserve slots of it', 'borrowed')
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
