/**
 * From tickets to promises: hands out tickets, decodes the completion words that the addon fills, and settles whoever
 * waits. One an environment (a worker thread is one of its own).
 */
import { KvError } from '../errors.js'
import { type Binding, type BindingSettings, binding } from './binding.js'
import { CODE, ERROR_CODES, type ErrorCode } from './generated.js'

/** What a batch reports: `onDone` once, then `onSettled` once. They must not throw. */
export interface BatchHandlers {
  /** Every block was verified and its copy is queued; at most once, before `onDone`. See TransferRequest.ready. */
  readonly onReady?: (() => void) | undefined
  /**
   * Every block's outcome is known, or the batch was cancelled.
   *
   * @param outcomes - one a block: `code | stage << 8`. Valid during the call only: copy what is needed later
   * @param code - index into the code list: 0, or what ended the batch early
   * @param message - why the first failed block failed; empty when none did
   */
  readonly onDone: (outcomes: Uint16Array, code: number, message: string) => void
  /** Nothing touches the memory any more. */
  readonly onSettled: () => void
}

/** Words of a record before its outcomes. */
const HEADER_WORDS = 4
const DONE = 1
const SETTLED = 2
const READY = 4
const LAST_TICKET = 0xffffffff
/** Enough for two records of the most blocks that a transfer may have. */
const WORDS = 32 * 1024

/** Ticket numbers and who waits for them. */
export class Completions {
  readonly #binding: Binding
  readonly #words: Uint32Array
  readonly #waiting = new Map<number, BatchHandlers>()
  #nextTicket: number

  /**
   * Initializes the binding, which an environment may do once: use {@link completions} outside of tests.
   *
   * @param native - the addon
   * @param firstTicket - where the numbers start; they wrap after 2^32 - 1
   */
  constructor(native: Binding, firstTicket = 1) {
    this.#binding = native
    this.#words = new Uint32Array(WORDS)
    this.#nextTicket = firstTicket
    const settings: BindingSettings = {
      makeError: (code, message) => new KvError(code as ErrorCode, message),
      completions: this.#words,
      settle: (wordCount) => this.#settle(wordCount),
    }
    native.initialize(settings)
  }

  /** How many tickets have not settled. */
  get pending(): number {
    return this.#waiting.size
  }

  /**
   * Starts a call of the binding that reports one result.
   *
   * @param start - calls the binding with the ticket
   * @returns the call's result; `undefined` where it has none
   * @throws KvError what the call reported, with the stack of whoever waits for it; or what `start` threw
   */
  async call<T>(start: (ticket: number) => void): Promise<T> {
    const reported = this.#startCall<T>(start)
    try {
      return await reported
    } catch (error) {
      // A native failure has no JavaScript stack of its own; this one shows who waited.
      if (error instanceof Error) Error.captureStackTrace(error, Completions.prototype.call)
      throw error
    }
  }

  /**
   * Starts a transfer, or another call that reports outcomes.
   *
   * @param start - calls the binding with the ticket; what it throws is thrown here, and then nothing was started
   * @returns the ticket, for {@link cancel}
   */
  batch(start: (ticket: number) => void, handlers: BatchHandlers): number {
    const ticket = this.#takeTicket()
    this.#waiting.set(ticket, handlers)
    try {
      start(ticket)
    } catch (error) {
      this.#waiting.delete(ticket)
      throw error
    }
    return ticket
  }

  /** Ends a batch early: blocks that have not arrived become misses with `code`. No effect once it is done. */
  cancel(ticket: number, code: ErrorCode): void {
    if (this.#waiting.has(ticket)) this.#binding.cancel(ticket, CODE[code])
  }

  #startCall<T>(start: (ticket: number) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const ticket = this.batch(start, {
        onDone: (_, code, message) => {
          if (code === CODE.OK) resolve(this.#binding.takeResult(ticket) as T)
          else reject(new KvError(codeName(code), message))
        },
        onSettled: () => undefined,
      })
    })
  }

  #takeTicket(): number {
    let ticket = this.#nextTicket
    while (ticket === 0 || this.#waiting.has(ticket)) ticket = ticket === LAST_TICKET ? 1 : ticket + 1
    this.#nextTicket = ticket === LAST_TICKET ? 1 : ticket + 1
    return ticket
  }

  /** Called by the addon. */
  #settle(wordCount: number): void {
    const words = this.#words
    for (let at = 0; at < wordCount; ) {
      const ticket = words[at] ?? 0
      const phase = words[at + 1] ?? 0
      const code = words[at + 2] ?? 0
      const count = words[at + 3] ?? 0
      const first = at + HEADER_WORDS
      at = first + Math.ceil(count / 2)
      const handlers = this.#waiting.get(ticket)
      if (handlers === undefined) continue
      if ((phase & SETTLED) !== 0) this.#waiting.delete(ticket)
      if ((phase & READY) !== 0 && handlers.onReady !== undefined) guarded(handlers.onReady)
      if ((phase & DONE) !== 0) {
        const outcomes = new Uint16Array(words.buffer, words.byteOffset + first * 4, count)
        guarded(() => handlers.onDone(outcomes, code, this.#binding.takeMessage(ticket)))
      }
      if ((phase & SETTLED) !== 0) guarded(handlers.onSettled)
    }
  }
}

/** A handler's failure is its own: it must reach neither the addon nor the handlers after it. */
function guarded(handler: () => void): void {
  try {
    handler()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

function codeName(code: number): ErrorCode {
  const name = ERROR_CODES[code] ?? 'ERR_KV_INTERNAL'
  return name === 'OK' ? 'ERR_KV_INTERNAL' : name
}

let shared: Completions | null = null

/** This environment's completions; the first call initializes the binding. */
export function completions(): Completions {
  shared ??= new Completions(binding)
  return shared
}
