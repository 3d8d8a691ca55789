/**
 * What an onboard hands out before it is done: events that an engine's stream waits for layer by layer, so that it
 * computes with the first layers while the others arrive.
 */
import { integer } from '../errors.js'
import type { Binding, ReadyHandle, StorageHandle } from '../native/binding.js'
import { type GroupTiers, groupNamed, type MovementContext } from './context.js'

/**
 * Blocks on their way to a GPU: every one was verified and is queued. The events live as long as this object: keep it
 * until the waits for them are queued.
 */
export interface LayerEvents {
  /** Tokens from the start of the prompt that are on their way or there. */
  readonly tokens: number
  /** The same in blocks. */
  readonly blockCount: number
  /**
   * What a stream must wait for (cuStreamWaitEvent, cudaStreamWaitEvent), each of them, before it reads a layer of these
   * blocks. Empty when all of the group's blocks are there already.
   *
   * @param layer - number of the layer in its group
   * @param group - the layer group's name; may be left out when the model has one group
   * @returns addresses of events
   * @throws KvError ERR_KV_INVALID_TYPE, ERR_KV_INVALID_VALUE
   */
  events(layer: number, group?: string): bigint[]
  /**
   * The device slots of a layer group, one a block (4294967295 for a block that the group does not need). Of owned memory
   * they are the caller's, as those of the result's `pin`, which must be released all the same.
   *
   * @throws KvError ERR_KV_INVALID_VALUE
   */
  slots(group?: string): Uint32Array
}

/** A batch's events, and the layer group that they are of. */
interface GroupEvents {
  readonly group: number
  readonly handle: ReadyHandle
  readonly addresses: BigUint64Array
}

class QueuedBlocks implements LayerEvents {
  readonly tokens: number
  readonly blockCount: number
  readonly #context: MovementContext
  readonly #events: readonly GroupEvents[]
  readonly #slots: readonly Uint32Array[]

  constructor(context: MovementContext, events: readonly GroupEvents[], slots: readonly Uint32Array[]) {
    this.blockCount = slots[0]?.length ?? 0
    this.tokens = this.blockCount * context.tokensPerBlock
    this.#context = context
    this.#events = events
    this.#slots = slots
  }

  events(layer: number, group?: string): bigint[] {
    const { index, shape } = groupNamed(this.#context, group)
    integer('layer', layer, 0, shape.layers - 1)
    const found: bigint[] = []
    for (const each of this.#events) {
      if (each.group !== index) continue
      // Device by device, one a layer.
      for (let at = layer; at < each.addresses.length; at += shape.layers) found.push(each.addresses[at] ?? 0n)
    }
    return found
  }

  slots(group?: string): Uint32Array {
    return (this.#slots[groupNamed(this.#context, group).index] ?? new Uint32Array()).slice()
  }
}

/**
 * Collects the batches of one onboard and decides once, in the moment of the last report, whether their events can be
 * handed out. Batches are begun before {@link ReadyOffer.seal}.
 */
export class ReadyOffer {
  /** The events; null when they cannot be handed out. */
  readonly promise: Promise<LayerEvents | null>
  readonly #binding: Binding
  readonly #batches: { readonly group: number; readonly handle: ReadyHandle }[] = []
  #resolve: (events: LayerEvents | null) => void = () => undefined
  #outstanding = 0
  #take: (() => readonly Uint32Array[] | null) | null = null
  readonly #context: MovementContext

  constructor(context: MovementContext) {
    this.#context = context
    this.#binding = context.binding
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  /** A batch into `storage` is about to start; null where it gets no events, which refuses the offer. */
  begin(tiers: GroupTiers, storage: StorageHandle): ReadyHandle | null {
    try {
      const handle = this.#binding.makeReady(storage)
      this.#batches.push({ group: tiers.index, handle })
      this.#outstanding++
      return handle
    } catch {
      // Without events there is still `done`, and whatever is wrong with the device shows there.
      this.refuse()
      return null
    }
  }

  /** A batch has reported that all of it is verified and queued. */
  queued(): void {
    this.#outstanding--
    this.#decide()
  }

  /** Every batch was begun. `take` makes the slots by layer group the caller's, or answers null where it cannot. */
  seal(take: () => readonly Uint32Array[] | null): void {
    this.#take = take
    this.#decide()
  }

  /** There will be no events. Does nothing once they were handed out. */
  refuse(): void {
    this.#take = null
    this.#outstanding = Number.POSITIVE_INFINITY
    this.#resolve(null)
  }

  #decide(): void {
    if (this.#take === null || this.#outstanding > 0) return
    const take = this.#take
    this.#take = null
    try {
      const batches = this.#batches.map((each) => ({ ...each, addresses: this.#binding.readyEvents(each.handle) }))
      const slots = take()
      this.#resolve(slots === null ? null : new QueuedBlocks(this.#context, batches, slots))
    } catch {
      this.#resolve(null)
    }
  }
}
