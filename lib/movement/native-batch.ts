/**
 * One native batch as two promises, with its outcomes decoded.
 */
import type { Completions } from '../native/completions.js'

/** Outcomes of a native batch. */
export interface BatchOutcomes {
  /** Index into the code list, one a block. */
  readonly codes: Uint8Array
  /** The first failure's message; empty when there was none. */
  readonly message: string
}

/** A native batch in flight. Neither promise rejects. */
export interface NativeBatch {
  readonly ticket: number
  readonly done: Promise<BatchOutcomes>
  readonly settled: Promise<void>
}

/**
 * Starts a batch of `count` blocks.
 *
 * @param start - calls the binding with the ticket; what it throws is thrown here and nothing is in flight then
 * @param onReady - called, before `done` resolves, when every block was verified and is queued; see TransferRequest.ready
 */
export function startBatch(
  completions: Completions,
  count: number,
  start: (ticket: number) => void,
  onReady?: () => void,
): NativeBatch {
  let resolveDone: (outcomes: BatchOutcomes) => void = () => undefined
  let resolveSettled: () => void = () => undefined
  const done = new Promise<BatchOutcomes>((resolve) => {
    resolveDone = resolve
  })
  const settled = new Promise<void>((resolve) => {
    resolveSettled = resolve
  })
  const ticket = completions.batch(start, {
    onReady,
    onDone: (outcomes, code, message) => {
      const codes = new Uint8Array(count)
      for (let i = 0; i < count; i++) codes[i] = (outcomes[i] ?? code) & 0xff
      resolveDone({ codes, message })
    },
    onSettled: () => resolveSettled(),
  })
  return { ticket, done, settled }
}
