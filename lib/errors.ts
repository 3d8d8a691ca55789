/**
 * The one error class of kvtier. Match on `code`, not on `instanceof`: two copies of the package may be loaded.
 */
import type { ErrorCode } from './native/generated.js'

export type { ErrorCode } from './native/generated.js'

/**
 * Every failure that a caller can see. The message says what was asked, what there was, and what to do.
 *
 * @example
 * ```ts
 * try {
 *   await BlockManager.open(options)
 * } catch (error) {
 *   if (error instanceof Error && 'code' in error && error.code === 'ERR_KV_LOCKED') waitForTheOtherProcess()
 *   else throw error
 * }
 * ```
 */
export class KvError extends Error {
  /** What went wrong, from a closed list. */
  readonly code: ErrorCode

  /**
   * @param code - from the closed list
   * @param message - what was asked, what there was, what to do
   * @param options - `cause`: the failure underneath, if there was one
   */
  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.name = 'KvError'
    this.code = code
  }
}

/** Whether a value is a {@link KvError}, of this copy of the package or of another; with `code`, one of that code. */
export function isKvError(value: unknown, code?: ErrorCode): value is KvError {
  if (!(value instanceof Error) || value.name !== 'KvError' || !('code' in value)) return false
  return code === undefined || value.code === code
}
