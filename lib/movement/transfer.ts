/**
 * A transfer as the caller sees it, and the control behind it: deadline, AbortSignal, and the native batches that belong
 * to it. A transfer never rejects for what the world does: what failed, came too late or was aborted is a miss.
 */
import { type ErrorCode, KvError } from '../errors.js'
import type { Completions } from '../native/completions.js'
import { CODE, ERROR_CODES } from '../native/generated.js'
import { DEVICE, type TierName, type TierNumber, tierName } from '../tiers/types.js'
import type { DevicePin } from './device-slots.js'
import type { LayerEvents } from './layer-events.js'

/** Outcome of every block of a transfer, in the order of the prompt. */
export interface TransferResult {
  /** Blocks the transfer was asked to move. */
  readonly blockCount: number
  /** Tokens from the start of the prompt that may be used without computing them (onboard), or that are held (offload). */
  readonly tokens: number
  /** Blocks that reached the tier that was asked for (`until`), or a tier below it; of an onboard, those of `tokens`. */
  readonly arrived: number
  /** Payload bytes that moved. */
  readonly bytes: number
  /**
   * Where block `i` came from (onboard) or the furthest tier that holds it now (offload); `none` for a miss.
   */
  tier(i: number): TierName
  /**
   * `OK`, or why block `i` is a miss. Of an onboard the blocks of `tokens` are `OK` and no others: what arrived behind a
   * block that did not cannot be used.
   */
  code(i: number): ErrorCode | 'OK'
  /** Why blocks did not arrive: the first failure's message; empty when every block did. */
  readonly message: string
  /** Owned device memory: the slots of the blocks that arrived, pinned until it is released. Otherwise null. */
  readonly pin: DevicePin | null
}

/** A batch of blocks on its way. */
export interface Transfer {
  /**
   * Of an onboard to a GPU that was asked for `layerEvents`: resolves, before `done`, when every block was verified and is
   * queued, with the events that the engine's stream must wait for. Then nothing but closing the manager ends the transfer
   * early: its deadline, its signal and `cancel` have no effect any more. `done` may still name misses, when the GPU
   * failed: what was computed from the blocks is then not to be used.
   *
   * null, and wait for `done`, where that cannot be promised: some block is not on its way, the transfer was ended before,
   * no events were asked for, or the device memory is of kind `host`.
   */
  readonly ready: Promise<LayerEvents | null>
  /** Resolves, always, with the outcome of every block. */
  readonly done: Promise<TransferResult>
  /**
   * Resolves when the transfer does not touch the memory any more: only then may `into` slots be read or written by
   * others, and borrowed `from` slots be written. The slots of a reservation hold the blocks' device copies from here on,
   * which other requests read: they are not to be written before the reservation is released (see {@link DeviceSlots}).
   */
  readonly settled: Promise<void>
  /** Turns what has not arrived into misses. */
  cancel(): void
}

/** How long a transfer may take, and who may end it. */
export interface TransferLimits {
  /** Turns what has not arrived into misses when it fires. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds after which what has not arrived is a miss; 0 = never (default: the manager's). */
  readonly deadlineMs?: number | undefined
}

const NOT_ALL = 'Some blocks did not get where they were to.'

/** Per-block outcomes under construction. */
export class Outcomes {
  readonly codes: Uint8Array
  readonly tiers: Int8Array
  bytes = 0
  message = ''

  constructor(blockCount: number) {
    this.codes = new Uint8Array(blockCount)
    this.tiers = new Int8Array(blockCount).fill(-1)
  }

  /** Block `i` is a miss; the first code and message of a block stay. */
  fail(i: number, code: ErrorCode, message = ''): void {
    if (this.codes[i] === CODE.OK) this.codes[i] = CODE[code]
    this.tiers[i] = -1
    if (this.message === '') this.message = message === '' ? `${code} at block ${i}` : message
  }

  /** Remembers why blocks did not arrive where they were to, though they are no misses. */
  note(message: string): void {
    if (this.message === '') this.message = message
  }

  /** Blocks from `first` on that did not fail are misses, too: what is before them did not arrive. */
  failFrom(first: number, code: ErrorCode, message: string): void {
    for (let i = first; i < this.codes.length; i++) if (this.codes[i] === CODE.OK) this.fail(i, code, message)
  }

  /** Block `i`, if no layer group failed it, is in `tier`; of several groups' tiers `combine` keeps one. */
  succeed(i: number, tier: number, combine: (a: number, b: number) => number): void {
    if (this.codes[i] !== CODE.OK) return
    const before = this.tiers[i] ?? -1
    this.tiers[i] = before < 0 ? tier : combine(before, tier)
  }

  /** Blocks from the first on that arrived without a gap. */
  get run(): number {
    const { codes, tiers } = this
    let run = 0
    while (run < codes.length && codes[run] === CODE.OK && (tiers[run] ?? -1) >= 0) run++
    return run
  }

  /** Blocks that no layer group keeps (outside every window) are where the others are: nobody will look for them. */
  placeUnneeded(): void {
    const { codes, tiers } = this
    let nearest = -1
    for (const tier of tiers) if (tier >= 0 && (nearest < 0 || tier < nearest)) nearest = tier
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] !== CODE.OK || (tiers[i] ?? -1) >= 0) continue
      if (nearest < 0) this.fail(i, 'ERR_KV_PARENT_LOST', 'No block of the window after it could be stored.')
      else tiers[i] = nearest
    }
  }

  /**
   * @param tokens - from the prompt's start, that can be used or are held
   * @param wanted - blocks in this tier or below it count as arrived
   */
  result(tokens: number, pin: DevicePin | null, wanted: TierNumber = DEVICE): TransferResult {
    const { codes, tiers } = this
    let arrived = 0
    for (let i = 0; i < codes.length; i++) if (codes[i] === CODE.OK && (tiers[i] ?? -1) >= wanted) arrived++
    const at = (i: number): number => {
      if (!Number.isInteger(i) || i < 0 || i >= codes.length) {
        throw new KvError(
          'ERR_KV_INVALID_VALUE',
          `Block ${i} was asked for, but the transfer has ${codes.length} blocks.`,
        )
      }
      return i
    }
    return {
      blockCount: codes.length,
      tokens,
      arrived,
      bytes: this.bytes,
      message: this.message === '' && arrived < codes.length ? NOT_ALL : this.message,
      pin,
      tier: (i) => tierName(tiers[at(i)] ?? -1),
      code: (i) => ERROR_CODES[codes[at(i)] ?? 0] ?? 'OK',
    }
  }
}

/** What ends a transfer early, and what must end before it is settled. */
export class TransferControl {
  readonly #completions: Completions
  readonly #tickets = new Set<number>()
  readonly #settling: Promise<unknown>[] = []
  readonly #cancelled: Promise<void>
  readonly #deadlineMs: number
  #resolveCancelled: () => void = () => undefined
  #code: ErrorCode | null = null
  #timer: NodeJS.Timeout | null = null
  #detach: () => void = () => undefined
  #committed = false

  constructor(completions: Completions, limits: TransferLimits, deadlineMs: number) {
    this.#completions = completions
    this.#cancelled = new Promise((resolve) => {
      this.#resolveCancelled = resolve
    })
    const { signal } = limits
    if (signal?.aborted === true) this.cancel('ERR_KV_ABORTED')
    else if (signal !== undefined) {
      const abort = (): void => this.cancel('ERR_KV_ABORTED')
      signal.addEventListener('abort', abort, { once: true })
      this.#detach = () => signal.removeEventListener('abort', abort)
    }
    this.#deadlineMs = deadlineMs
    this.restartDeadline()
  }

  /** The deadline counts from now on: for work in parts, each of which may take that long. */
  restartDeadline(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = this.#deadlineMs > 0 ? setTimeout(() => this.cancel('ERR_KV_DEADLINE'), this.#deadlineMs) : null
  }

  /** Why the transfer was ended, or null while it was not. */
  get code(): ErrorCode | null {
    return this.#code
  }

  /**
   * The caller was told that the blocks are on their way, and may use their slots: from now on only closing the manager
   * ends the transfer.
   */
  commit(): void {
    this.#committed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#detach()
  }

  /** Ends the transfer: what has not arrived is a miss with `code`. The first code stays. */
  cancel(code: ErrorCode): void {
    if (this.#code !== null || (this.#committed && code !== 'ERR_KV_CLOSED')) return
    this.#code = code
    for (const ticket of this.#tickets) this.#completions.cancel(ticket, code)
    this.#resolveCancelled()
  }

  /** Waits for `promise` or the end of the transfer, whichever is first; true when it was the promise. */
  async wait(promise: Promise<unknown>): Promise<boolean> {
    if (this.#code !== null) return false
    await Promise.race([promise, this.#cancelled])
    return this.#code === null
  }

  /** A native batch belongs to the transfer: it is cancelled with it, and must settle before it does. */
  adopt(ticket: number, settled: Promise<unknown>): void {
    this.#tickets.add(ticket)
    this.settleAfter(settled.finally(() => this.#tickets.delete(ticket)))
    if (this.#code !== null) this.#completions.cancel(ticket, this.#code)
  }

  /** Something else that must end before the transfer is settled. */
  settleAfter(promise: Promise<unknown>): void {
    // Its rejection shows in `settle`, which may be called later.
    promise.catch(() => undefined)
    this.#settling.push(promise)
  }

  /** No deadline and no signal from here on; resolves when everything has ended, or rejects then. */
  async settle(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#detach()
    let ended = 0
    let broken: PromiseSettledResult<unknown> | undefined
    while (ended < this.#settling.length) {
      const more = this.#settling.slice(ended)
      ended += more.length
      broken ??= (await Promise.allSettled(more)).find((each) => each.status === 'rejected')
    }
    if (broken?.status === 'rejected') throw broken.reason
  }
}

/** Waits for everything that belongs to a transfer, and then calls `end`, whatever happened. Never rejects. */
export async function settleThen(control: TransferControl, end: () => void): Promise<void> {
  try {
    await control.settle()
  } catch {
    // A broken promise of ours: whoever started it has its rejection.
  } finally {
    end()
  }
}

/** Starts `run` and shows it as a {@link Transfer}. */
export function startTransfer(
  control: TransferControl,
  run: (control: TransferControl) => Promise<TransferResult>,
  onSettled: () => void,
  ready: Promise<LayerEvents | null> = Promise.resolve(null),
): Transfer {
  const done = run(control)
  const settled = done.then(
    () => control.settle().finally(onSettled),
    () => control.settle().finally(onSettled),
  )
  // A broken promise of ours shows in `done`; this one must not be unhandled beside it.
  settled.catch(() => undefined)
  return { ready, done, settled, cancel: () => control.cancel('ERR_KV_ABORTED') }
}
