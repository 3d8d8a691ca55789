/**
 * An engine for demos, replays and benchmarks: instead of attention it "computes" bytes derived from (sequence hash,
 * layer, K or V, offset), and so can tell whether the bytes it is given are the ones that belong there.
 */
import type { BlockManager } from '../block-manager.js'
import type { DeviceSlots } from '../movement/device-slots.js'
import { fence } from '../movement/fence.js'
import { startBatch } from '../movement/native-batch.js'
import type { Sequence } from '../movement/sequence.js'
import type { TransferResult } from '../movement/transfer.js'
import { binding, type StorageHandle } from '../native/binding.js'
import { completions } from '../native/completions.js'

/** What one request did. */
export interface RequestTally {
  readonly tokensAsked: number
  readonly tokensFromDevice: number
  readonly tokensFromHost: number
  readonly tokensFromDisk: number
  readonly verifiedBlocks: number
  readonly wrongBlocks: number
}

/** How a request is served. */
export interface ServeOptions {
  readonly until?: 'host' | 'disk'
}

/** Serves requests against owned device memory of a manager with one layer group. */
export class PatternEngine {
  readonly #manager: BlockManager
  readonly #storage: StorageHandle

  constructor(manager: BlockManager) {
    this.#manager = manager
    this.#storage = manager.device.storage()
  }

  /** "Computes" blocks: fills slots with the bytes of their hashes. */
  async compute(slots: Uint32Array, hashes: Uint8Array): Promise<void> {
    const batch = startBatch(completions(), slots.length, (ticket) =>
      binding.startFillPattern(ticket, this.#storage, slots, hashes),
    )
    await batch.done
    await batch.settled
  }

  /** Counts the slots that hold exactly the bytes of their hashes, and those that do not. */
  async check(slots: Uint32Array, hashes: Uint8Array): Promise<{ verified: number; wrong: number }> {
    if (slots.length === 0) return { verified: 0, wrong: 0 }
    const batch = startBatch(completions(), slots.length, (ticket) =>
      binding.startCheckPattern(ticket, this.#storage, slots, hashes),
    )
    const { codes } = await batch.done
    await batch.settled
    let wrong = 0
    for (const code of codes) if (code !== 0) wrong++
    return { verified: slots.length - wrong, wrong }
  }

  /** One request as an engine serves it: onboard what is held, check it, compute the rest, offload it. */
  async serve(sequence: Sequence, options: ServeOptions = {}): Promise<RequestTally> {
    const load = sequence.onboard({ after: fence.quiet() })
    const loaded = await load.done
    const held = loaded.pin
    const tally = tallyOf(loaded, this.#manager.layout.tokensPerBlock)
    let checked = { verified: 0, wrong: 0 }
    let fresh: DeviceSlots | null = null
    try {
      if (held !== null && held.blockCount > 0) {
        checked = await this.check(held.slots(), sequence.hashes.bytes.slice(0, held.blockCount * 32))
      }
      const first = held?.blockCount ?? 0
      const count = sequence.blockCount - first
      if (count > 0) {
        fresh = this.#manager.device.reserve(count)
        await this.compute(fresh.slots(), sequence.hashes.bytes.slice(first * 32, (first + count) * 32))
        const store = sequence.offload({
          from: fresh,
          firstBlock: first,
          after: fence.quiet(),
          until: options.until ?? 'host',
        })
        await store.settled
      }
    } finally {
      await load.settled
      held?.release()
      fresh?.release()
    }
    return { tokensAsked: sequence.tokenCount, ...tally, verifiedBlocks: checked.verified, wrongBlocks: checked.wrong }
  }
}

function tallyOf(
  result: TransferResult,
  tokensPerBlock: number,
): Pick<RequestTally, 'tokensFromDevice' | 'tokensFromHost' | 'tokensFromDisk'> {
  const counts = { device: 0, host: 0, disk: 0, none: 0 }
  for (let i = 0; i < result.tokens / tokensPerBlock; i++) counts[result.tier(i)] += tokensPerBlock
  return { tokensFromDevice: counts.device, tokensFromHost: counts.host, tokensFromDisk: counts.disk }
}
