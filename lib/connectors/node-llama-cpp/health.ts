/**
 * Whether a cache is on, why it is not, and what it tells of its failures. What is off stays off.
 */
import type { BlockManager } from '../../block-manager.js'
import { isKvError } from '../../errors.js'
import { Emitter } from '../../events.js'
import type { AdapterWatch } from './adapter-watch.js'
import type { NodeLlamaCppEvents } from './cache-options.js'

type Failed = NodeLlamaCppEvents['failed']

const EVENTS = { disabled: true, failed: true } as const
const CLOSED = 'The cache was closed.'
const MANAGER_CLOSED = 'The block manager was closed.'
const OTHER_ADAPTERS =
  'The LoRA adapters of the context were set anew: what is held was computed with others. Use a context for each set.'
/** Loads that fail one after the other before the cache is off. */
const MOST_FAILED_LOADS = 3

/** One a cache. */
export class Health {
  readonly events: Emitter<NodeLlamaCppEvents> = new Emitter<NodeLlamaCppEvents>(EVENTS)
  readonly #adapters: AdapterWatch
  readonly #stopListening: () => void
  #reason: string
  #failedLoads = 0

  /**
   * @param adapters - begun before the identity of what is stored was told; closed with this
   * @param reason - why the cache is off from the start; empty when it is on
   */
  constructor(manager: BlockManager | null, adapters: AdapterWatch, reason: string) {
    this.#adapters = adapters
    this.#reason = reason
    const onClosing = (): void => this.#turnOff(MANAGER_CLOSED)
    this.#stopListening = manager?.internals.onClosing(onClosing) ?? (() => undefined)
    adapters.onChange(() => this.#turnOff(OTHER_ADAPTERS))
    // When whoever made the cache could listen.
    if (this.#reason !== '') setImmediate(() => this.events.emit('disabled', { reason: this.#reason }))
  }

  /** Whether blocks may be stored and brought. */
  get isOn(): boolean {
    return this.#reason === ''
  }

  /** Why not; empty when they may. */
  get reason(): string {
    return this.#reason
  }

  /** The engine took an image, or did not: too many of those in a row turn the cache off. */
  noteLoad(taken: boolean): void {
    if (taken) {
      this.#failedLoads = 0
      return
    }
    this.tell(
      'onboard',
      'ERR_KV_IO',
      'The engine did not take an image of verified blocks; the prompt is computed instead.',
    )
    if (++this.#failedLoads < MOST_FAILED_LOADS) return
    this.#turnOff(`The engine refused ${MOST_FAILED_LOADS} images one after the other.`)
  }

  /** Something failed, at the cost of tokens that are computed again. */
  report(what: Failed['what'], error: unknown): void {
    this.tell(what, isKvError(error) ? error.code : 'ERR_KV_IO', messageOf(error))
  }

  /** As {@link report}, of a failure that is no error. */
  tell(what: Failed['what'], code: string, message: string): void {
    // What a closed manager refuses is no news.
    if (this.#reason !== MANAGER_CLOSED) this.events.emit('failed', { what, code, message })
  }

  /** The cache is closed: it is off, without an event. */
  close(): void {
    this.#stopListening()
    this.#adapters.close()
    this.#reason ||= CLOSED
  }

  /** Only the first reason is told. */
  #turnOff(reason: string): void {
    if (this.#reason !== '') return
    this.#reason = reason
    this.events.emit('disabled', { reason })
  }
}

/** What an error says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
