/**
 * The one error class of kvtier, and the one voice of argument checks: what was asked for, what there was. Match on `code`, not on `instanceof`: two copies of the package may be loaded.
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

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (value === null || typeof value !== 'object') return String(value)
  return Array.isArray(value) ? 'an array' : `a ${value.constructor?.name ?? 'object'}`
}

/** Throws ERR_KV_INVALID_TYPE: `name` was asked to be `expected` and is `value`. */
export function invalidType(name: string, expected: string, value: unknown): never {
  throw new KvError('ERR_KV_INVALID_TYPE', `${name} must be ${expected}, but is ${describe(value)} (${typeof value}).`)
}

/** Throws ERR_KV_INVALID_VALUE: `name` was asked to be `expected` and is `value`. */
export function invalidValue(name: string, expected: string, value: unknown): never {
  throw new KvError('ERR_KV_INVALID_VALUE', `${name} must be ${expected}, but is ${describe(value)}.`)
}

/** A safe integer between `least` and `most`, or an error that names it. */
export function integer(name: string, value: unknown, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number') invalidType(name, 'a number', value)
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    invalidValue(name, `an integer between ${least} and ${most}`, value)
  }
  return value
}

/** A plain object, or an error that names it. */
export function object(name: string, value: unknown): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) invalidType(name, 'an object', value)
  return value as Record<string, unknown>
}
