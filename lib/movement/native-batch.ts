/**
 * One native batch as two promises, with its outcomes decoded.
 */
import type { ErrorCode } from '../errors.js'
import type { Completions } from '../native/completions.js'
import { CODE, ERROR_CODES } from '../native/generated.js'

/** The stage of a block that a GPU failed to move; see BindingSettings.completions. */
const ON_GPU = 1

/** Outcomes of a native batch. */
export interface BatchOutcomes {
  /** Index into the code list, one a block. */
  readonly codes: Uint8Array
  /** Whether it was a GPU on the way that failed, one a block: 1, or 0. */
  readonly gpuFailed: Uint8Array
  /** The first failure's message; empty when there was none. */
  readonly message: string
}

/** What says something about a block or the caller, and nothing about a tier. */
const NO_FAILURES: readonly number[] = [
  CODE.OK,
  CODE.ERR_KV_CHECKSUM,
  CODE.ERR_KV_ABORTED,
  CODE.ERR_KV_DEADLINE,
  CODE.ERR_KV_CLOSED,
]

/** What a tier failed with: the loss of a GPU before all else; null where no block shows a failure of one. */
export function tierFailureOf(codes: Uint8Array): ErrorCode | null {
  if (codes.includes(CODE.ERR_KV_DEVICE_LOST)) return 'ERR_KV_DEVICE_LOST'
  const code = codes.find((each) => !NO_FAILURES.includes(each))
  return code === undefined ? null : (ERROR_CODES[code] as ErrorCode)
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
      const gpuFailed = new Uint8Array(count)
      for (let i = 0; i < count; i++) {
        codes[i] = (outcomes[i] ?? code) & 0xff
        gpuFailed[i] = (outcomes[i] ?? 0) >>> 8 === ON_GPU ? 1 : 0
      }
      resolveDone({ codes, gpuFailed, message })
    },
    onSettled: () => resolveSettled(),
  })
  return { ticket, done, settled }
}
