/**
 * Conversations that an engine serves, turn by turn, with their blocks in slots that are reused: with a block manager,
 * blocks leave the engine's memory after every turn and come back before the next; without one, every turn computes all of
 * its conversation again, in slots of the conversation's own. The answers are the same, as long as no byte is lost.
 */
import type { BlockManager } from '../../../lib/block-manager.ts'
import { fence } from '../../../lib/movement/fence.ts'
import type { Engine } from './engine.ts'

const VOCABULARY = 50_000n

/** A conversation, and all that the engine answered. */
export interface Conversation {
  readonly tokens: number[]
  readonly outputs: bigint[]
  /** Without a manager: the slots of its blocks. */
  readonly slots: number[]
}

/** What is asked in a turn. */
export interface Turn {
  readonly asked: readonly number[]
  /** Tokens to generate; at least 1. */
  readonly answers: number
}

/** A conversation in which nothing was said. */
export function newConversation(): Conversation {
  return { tokens: [], outputs: [], slots: [] }
}

/** Slots that one turn takes and another one gets when it gives them back. */
export class SlotPool {
  readonly #free: number[]
  readonly #waiting: { readonly count: number; readonly resolve: (slots: number[]) => void }[] = []

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, slot) => slot)
  }

  /** Resolves when there are so many; those given back last come first. */
  take(count: number): Promise<number[]> {
    return new Promise((resolve) => {
      this.#waiting.push({ count, resolve })
      this.#serve()
    })
  }

  giveBack(slots: readonly number[]): void {
    this.#free.push(...slots)
    this.#serve()
  }

  #serve(): void {
    for (;;) {
      const next = this.#waiting[0]
      if (next === undefined || next.count > this.#free.length) return
      this.#waiting.shift()
      next.resolve(this.#free.splice(this.#free.length - next.count))
    }
  }
}

/** Tokens that need not be computed. */
interface BroughtBack {
  readonly held: number
  /** Events that each layer waits for. */
  readonly waits: readonly (readonly bigint[])[]
  readonly settled: Promise<void>
}

/** An engine, its slots, and the manager that keeps blocks while they are in none; null where they stay. */
export class Serving {
  /** Tokens that were onboarded instead of computed. */
  onboardedTokens = 0
  readonly #engine: Engine
  readonly #pool: SlotPool
  readonly #manager: BlockManager | null
  readonly #layerEvents: boolean
  #unsettled: Promise<void>[] = []

  constructor(engine: Engine, pool: SlotPool, manager: BlockManager | null, layerEvents: boolean = false) {
    this.#engine = engine
    this.#pool = pool
    this.#manager = manager
    this.#layerEvents = layerEvents
  }

  /** Serves a turn; resolves when its answer is there, while its blocks may still be on their way out. */
  async turn(conversation: Conversation, { asked, answers }: Turn): Promise<void> {
    const { tokens, outputs } = conversation
    tokens.push(...asked)
    // What the answer's last token would add to the cache belongs to the next turn.
    const blocks = Math.ceil((tokens.length + answers - 1) / this.#engine.model.tokensPerBlock)
    const slots = await this.#slotsOf(conversation, blocks)
    const { held, waits, settled } = await this.#bringBack(tokens, slots)
    let output = this.#engine.decode(tokens.slice(held), held, this.#table(slots, tokens.length), waits)
    for (let i = 1; ; i++) {
      if (i === answers) {
        // A slot is of one transfer at a time.
        await settled
        this.#bringOut(tokens, slots)
      }
      const last = (await output).at(-1) ?? 0n
      outputs.push(last)
      const cached = tokens.push(Number(last % VOCABULARY)) - 1
      if (i === answers) return
      output = this.#engine.decode(tokens.slice(cached), cached, this.#table(slots, tokens.length))
    }
  }

  #table(slots: readonly number[], tokens: number): number[] {
    return slots.slice(0, Math.ceil(tokens / this.#engine.model.tokensPerBlock))
  }

  async #slotsOf({ slots }: Conversation, blocks: number): Promise<number[]> {
    if (this.#manager !== null) return await this.#pool.take(blocks)
    slots.push(...(await this.#pool.take(blocks - slots.length)))
    return slots
  }

  /** The longest prefix that is held, into the first slots: behind all that the engine does with them. */
  async #bringBack(tokens: readonly number[], slots: readonly number[]): Promise<BroughtBack> {
    if (this.#manager === null) return { held: 0, waits: [], settled: Promise.resolve() }
    const sequence = this.#manager.sequence(Uint32Array.from(tokens), { tenant: 'chat' })
    // No more slots than will be filled, nor that of the last token, which is computed again: the engine would write into
    // slots that are the transfer's until it has settled.
    const before = Math.floor((tokens.length - 1) / this.#engine.model.tokensPerBlock)
    const into = Uint32Array.from(slots.slice(0, Math.min(sequence.match().blocks, before)))
    const after = fence.stream(this.#engine.stream())
    const load = sequence.onboard({ into, after, layerEvents: this.#layerEvents })
    const events = await load.ready
    const { tokens: held } = events ?? (await load.done)
    if (events === null) await load.settled
    this.onboardedTokens += held
    const layers = this.#engine.model.groups[0]?.layers ?? 0
    const waits = events === null ? [] : Array.from({ length: layers }, (_, layer) => events.events(layer))
    return { held, waits, settled: load.settled }
  }

  /** Whole blocks go to kvtier behind what the engine has queued; slots are free when that has settled. */
  #bringOut(tokens: readonly number[], slots: readonly number[]): void {
    if (this.#manager === null) return
    const whole = Math.floor(tokens.length / this.#engine.model.tokensPerBlock)
    const sequence = this.#manager.sequence(Uint32Array.from(tokens), { tenant: 'chat' })
    const from = Uint32Array.from(slots.slice(0, whole))
    const store = sequence.offload({ from, after: fence.stream(this.#engine.stream()), until: 'disk' })
    this.#unsettled.push(store.settled.then(() => this.#pool.giveBack(slots)))
  }

  /** Resolves when no block is on its way. */
  async idle(): Promise<void> {
    await Promise.all(this.#unsettled)
    this.#unsettled = []
  }
}
