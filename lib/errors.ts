/**
 * The one error class of kvtier, and the one voice of argument checks: what was asked for, what there was. Match on
 * `code`, not on `instanceof`: two copies of the package may be loaded.
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

/** True or false; `byDefault` when it is left out; an error that names it otherwise. */
export function flag(name: string, value: unknown, byDefault: boolean): boolean {
  if (value === undefined) return byDefault
  if (typeof value !== 'boolean') invalidType(name, 'true or false', value)
  return value
}

/** Throws ERR_KV_INVALID_VALUE for a field that is not among those known: a misspelt one would be left out silently. */
export function onlyKnown(name: string, given: object, known: readonly string[]): void {
  for (const field of Object.keys(given)) {
    if (known.includes(field)) continue
    const shown = field.length > 60 ? `${field.slice(0, 60)}…` : field
    const near = suggestion(field, known)
    throw new KvError('ERR_KV_INVALID_VALUE', `${name}.${shown} is unknown.${near} Known are ${known.join(', ')}.`)
  }
}

/** A call's options: an object with known fields only, or an error that names what is wrong. */
export function optionsOf(name: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  const given = object(name, value)
  onlyKnown(name, given, known)
  return given
}

/** How many insertions, removals, replacements and swaps of neighbours lead from one word to the other. */
function distance(from: string, to: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; ++row) {
    const current = [row]
    for (let column = 1; column <= to.length; ++column) {
      const same = from[row - 1] === to[column - 1]
      let best = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      if (swapped) best = Math.min(best, beforeLast[column - 2]! + 1)
      current.push(best)
    }
    beforeLast = last
    last = current
  }
  return last[to.length]!
}

/**
 * The name that was probably meant, whatever its capitals: the one name that begins so, or the nearest within two (for
 * short words: one) typing errors.
 */
export function nearest(word: string, names: readonly string[]): string | undefined {
  const lower = word.toLowerCase()
  const begun = lower.length >= 2 ? names.filter((name) => name.toLowerCase().startsWith(lower)) : []
  if (begun.length === 1) return begun[0]
  const allowed = lower.length <= 3 ? 1 : 2
  let best: string | undefined
  let bestDistance = allowed + 1
  for (const name of names) {
    // No fewer steps than letters that one of them has more; a long text is not worth counting.
    if (Math.abs(name.length - lower.length) >= bestDistance) continue
    const steps = distance(lower, name.toLowerCase())
    if (steps < bestDistance) {
      best = name
      bestDistance = steps
    }
  }
  return best
}

/** ` Did you mean 'x'?`, or nothing. */
export function suggestion(word: string, names: readonly string[], prefix = ''): string {
  const name = nearest(word, names)
  return name === undefined ? '' : ` Did you mean '${prefix}${name}'?`
}
