/**
 * Random requests of every kind against a manager, many beside each other: onboards and offloads that are aborted, tried
 * again before they have settled, and held; reservations that are published or given up; readings. Each checks every byte
 * that it is given against the identity that it asked for.
 */
import { expect } from 'vitest'
import type { BlockManager } from '../../lib/block-manager.ts'
import { groupShapeOf, slotBytesOfShape } from '../../lib/identity/layer-groups.ts'
import { SHARED, type Tenant } from '../../lib/identity/salt.ts'
import type { DevicePin } from '../../lib/movement/device-slots.ts'
import { fence } from '../../lib/movement/fence.ts'
import { firstNeeded } from '../../lib/movement/match.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import type { Transfer, TransferResult } from '../../lib/movement/transfer.ts'
import { binding } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { turn } from './io.ts'
import { tokens } from './manager.ts'
import { checkPin, compute, fillSlots, hashesOf } from './slots.ts'

/** Prompts there are, and blocks each has at most. */
export const PROMPTS = 10
export const PROMPT_BLOCKS = 6
export const TENANTS: readonly Tenant[] = ['a', 'quota', SHARED]

/** A seeded source of whole numbers below `limit`. */
export function numbers(seed: number): (limit: number) => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % limit
  }
}

/** Prompts that share prefixes: prompt `n` has its first n % 4 blocks in common with others of the same n % 2. */
export function promptOf(n: number, blocks: number = PROMPT_BLOCKS): Uint32Array {
  const own = tokens(n + 10, blocks * 4)
  own.set(tokens(n % 2, Math.min(n % 4, blocks) * 4))
  return own
}

/** The bytes that blocks of a sequence must have in host memory, in canonical order. */
async function patternOf(manager: BlockManager, sequence: Sequence, group: number, block: number): Promise<Uint8Array> {
  const layerGroup = manager.layout.groups[group]!
  const shape = groupShapeOf(layerGroup, manager.layout.tokensPerBlock)
  const bytes = new Uint8Array(slotBytesOfShape(shape))
  const storage = binding.borrowMemory('contiguous', shape, 1, [bytes])
  await fillSlots(storage, Uint32Array.of(0), hashesOf(sequence, block, 1))
  await completions().call((ticket) => binding.startClose(ticket, storage))
  return bytes.subarray(0, shape.parts * shape.layers * shape.outer * shape.tokensPerBlock * shape.bytesPerToken)
}

/** Requests against one manager. */
export class Requests {
  readonly #manager: BlockManager
  readonly #next: (limit: number) => number
  readonly #pins: DevicePin[] = []
  /** Transfers that nobody waited for. */
  readonly #open: Promise<unknown>[] = []
  /** Codes of all outcomes. */
  readonly codes = new Set<string>()
  checkedBlocks = 0

  constructor(manager: BlockManager, next: (limit: number) => number) {
    this.#manager = manager
    this.#next = next
  }

  /** One random request. */
  async run(): Promise<void> {
    const next = this.#next
    const tenant = TENANTS[next(TENANTS.length)] ?? 'a'
    const ttlMs = next(6) === 0 ? 1_000 : 0
    const sequence = this.#manager.sequence(promptOf(next(PROMPTS), 1 + next(PROMPT_BLOCKS)), {
      tenant,
      priority: next(100),
      ttlMs,
    })
    const kind = next(8)
    if (kind < 3) await this.#onboard(sequence)
    else if (kind < 6) await this.#offload(sequence)
    else if (kind === 6) await this.#read(sequence)
    else await this.#publish(sequence)
  }

  /** Lets go of everything; resolves when nothing is in flight. */
  async end(): Promise<void> {
    for (const pin of this.#pins.splice(0)) pin.release()
    await Promise.all(this.#open.splice(0))
  }

  #note(result: TransferResult): void {
    for (let i = 0; i < result.blockCount; i++) {
      this.codes.add(result.code(i))
      expect(result.tier(i) === 'none').toBe(result.code(i) !== 'OK')
    }
  }

  /** Sometimes a signal that fires a few turns later. */
  #limits(): { signal?: AbortSignal; deadlineMs: number } {
    if (this.#next(3) !== 0) return { deadlineMs: 0 }
    const controller = new AbortController()
    let turns = this.#next(6)
    const later = async (): Promise<void> => {
      while (turns-- > 0) await turn()
      controller.abort()
    }
    void later()
    return { signal: controller.signal, deadlineMs: 20_000 }
  }

  async #settle(transfer: Transfer): Promise<void> {
    if (this.#next(2) === 0) await transfer.settled
    else this.#open.push(transfer.settled)
  }

  async #onboard(sequence: Sequence): Promise<void> {
    const again = this.#next(4) === 0
    for (let attempt = 0; attempt < (again ? 2 : 1); attempt++) {
      const transfer = sequence.onboard({ after: fence.quiet(), ...this.#limits() })
      if (again && attempt === 0) {
        await turn()
        transfer.cancel()
      }
      const result = await transfer.done
      this.#note(result)
      const { pin } = result
      if (pin !== null) {
        const { checked, wrong } = await checkPin(this.#manager, sequence, pin)
        this.checkedBlocks += checked
        expect(wrong, 'wrong blocks in device memory').toBe(0)
        this.#checkNeeded(pin)
        if (this.#next(5) === 0 && this.#pins.length < 3) this.#pins.push(pin)
        else pin.release()
      }
      await this.#settle(transfer)
    }
    if (this.#pins.length > 0 && this.#next(3) === 0) this.#pins.shift()?.release()
  }

  /** A prefix that is offered has every block that a group needs for it. */
  #checkNeeded(pin: DevicePin): void {
    const { layout } = this.#manager
    for (const group of layout.groups) {
      const slots = pin.slots(group.name)
      const first = firstNeeded({ group } as Parameters<typeof firstNeeded>[0], pin.blockCount, layout.tokensPerBlock)
      for (let i = first; i < pin.blockCount; i++) expect(slots[i], `block ${i} of ${group.name}`).not.toBe(0xffffffff)
    }
  }

  async #offload(sequence: Sequence): Promise<void> {
    let slots: ReturnType<BlockManager['device']['reserve']>
    try {
      slots = this.#manager.device.reserve(sequence.blockCount)
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_KV_OUT_OF_BLOCKS' })
      return
    }
    await compute(this.#manager, sequence, slots, 0)
    const again = this.#next(4) === 0
    for (let attempt = 0; attempt < (again ? 2 : 1); attempt++) {
      const until = this.#next(2) === 0 ? 'disk' : 'host'
      const transfer = sequence.offload({ from: slots, after: fence.quiet(), until, ...this.#limits() })
      if (again && attempt === 0) {
        await turn()
        transfer.cancel()
      }
      const result = await transfer.done
      expect(result.blockCount).toBe(sequence.blockCount)
      this.#note(result)
      await this.#settle(transfer)
    }
    slots.release()
  }

  async #read(sequence: Sequence): Promise<void> {
    const reading = await this.#manager.host.load(sequence, this.#limits())
    this.#note(reading.result)
    const count = reading.result.tokens / this.#manager.layout.tokensPerBlock
    for (const [index, group] of this.#manager.layout.groups.entries()) {
      const first = firstNeeded(
        { group } as Parameters<typeof firstNeeded>[0],
        count,
        this.#manager.layout.tokensPerBlock,
      )
      for (let i = first; i < count; i++) {
        const expected = await patternOf(this.#manager, sequence, index, i)
        expect(Buffer.from(reading.window(i, group.name)).equals(expected), `block ${i} of ${group.name}`).toBe(true)
        this.checkedBlocks++
      }
    }
    reading.release()
  }

  async #publish(sequence: Sequence): Promise<void> {
    const reservation = await this.#manager.host.reserve(sequence)
    for (const [index, group] of this.#manager.layout.groups.entries()) {
      for (let i = 0; i < reservation.blockCount; i++) {
        if (!reservation.needs(i, group.name)) continue
        reservation.window(i, group.name).set(await patternOf(this.#manager, sequence, index, i))
      }
    }
    if (this.#next(4) === 0) return reservation.release()
    this.#note(await reservation.publish({ until: this.#next(2) === 0 ? 'disk' : 'host' }))
  }
}
