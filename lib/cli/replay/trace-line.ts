/** One line of a trace: what it must say, and what the error says when it does not. */
import { KvError } from '../../errors.js'

/** One request of a trace. */
export interface TraceRequest {
  /** Milliseconds since the trace's start; 0 where the trace does not say. */
  readonly timestampMs: number
  /** Tokens of the prompt; 0 where the trace does not say. */
  readonly inputLength: number
  /** Tokens of the answer; 0 where the trace does not say. */
  readonly outputLength: number
  /** The conversation, where the trace says. */
  readonly session?: number | string
  /** Ids of the prompt's blocks, first block first; integers from 0 to 2^53 - 1. */
  readonly ids: Float64Array
}

/** More blocks than any context has; bounds what a line of a few bytes can ask for. */
const MAX_BLOCKS = 2 ** 22
const MAX_SHOWN = 60

/** Names the line in errors. */
interface Place {
  readonly path: string
  readonly line: number
}

/**
 * Reads a line.
 *
 * @param isFirst - whether no request came before: then a line that is no request at all means that the file is no trace
 * @throws KvError `ERR_KV_UNKNOWN_TRACE`, `ERR_KV_BAD_TRACE_LINE`
 */
export function parseTraceLine(text: string, path: string, line: number, isFirst: boolean): TraceRequest {
  const place = { path, line }
  const fields = parseObject(text)
  if (fields === null || !('hash_ids' in fields || 'hash_ranges' in fields)) {
    const expected = 'a JSON object with hash_ids or hash_ranges'
    if (!isFirst) fail(place, expected, shorten(text))
    throw new KvError(
      'ERR_KV_UNKNOWN_TRACE',
      `${path} is in no trace format that is read: its first line should be ${expected}, but is ${shorten(text)}.`,
    )
  }
  if ('hash_ids' in fields && 'hash_ranges' in fields) fail(place, 'either hash_ids or hash_ranges', 'both')
  const { session } = fields
  if (session !== undefined && session !== null && typeof session !== 'number' && typeof session !== 'string') {
    fail(place, 'session to be a number or a string', show(session))
  }
  return {
    timestampMs: amountOf(fields, 'timestamp', place),
    inputLength: amountOf(fields, 'input_length', place),
    outputLength: amountOf(fields, 'output_length', place),
    ...(typeof session === 'number' || typeof session === 'string' ? { session } : {}),
    ids: 'hash_ids' in fields ? idsOf(fields.hash_ids, place) : expandRanges(fields.hash_ranges, place),
  }
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}

function amountOf(fields: Record<string, unknown>, name: string, place: Place): number {
  const value = fields[name] ?? 0
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  return fail(place, `${name} to be a number, not negative`, show(value))
}

function idsOf(value: unknown, place: Place): Float64Array {
  if (!Array.isArray(value)) return fail(place, 'hash_ids to be a list of block ids', show(value))
  if (value.length > MAX_BLOCKS) return fail(place, `at most ${MAX_BLOCKS} block ids`, String(value.length))
  const ids = new Float64Array(value.length)
  for (let i = 0; i < ids.length; i++) {
    const id: unknown = value[i]
    if (!isId(id)) return fail(place, `block id ${i} to be an integer from 0 to 2^53 - 1`, show(id))
    ids[i] = id
  }
  return ids
}

function expandRanges(value: unknown, place: Place): Float64Array {
  if (!Array.isArray(value)) return fail(place, 'hash_ranges to be a list of [first id, count]', show(value))
  const ranges: readonly (readonly [number, number])[] = value.map((range, i) => rangeOf(range, i, place))
  const total = ranges.reduce((sum, [, count]) => sum + count, 0)
  if (total > MAX_BLOCKS) return fail(place, `at most ${MAX_BLOCKS} blocks`, String(total))
  const ids = new Float64Array(total)
  let at = 0
  for (const [first, count] of ranges) for (let i = 0; i < count; i++) ids[at++] = first + i
  return ids
}

function rangeOf(value: unknown, index: number, place: Place): readonly [number, number] {
  const expected = `range ${index} to be [first id, count], integers from 0 to 2^53 - 1 with a count of at least 1`
  if (!Array.isArray(value) || value.length !== 2) return fail(place, expected, show(value))
  const [first, count]: unknown[] = value
  const fits = isId(first) && isId(count) && count > 0 && first <= Number.MAX_SAFE_INTEGER - (count - 1)
  if (!fits) return fail(place, expected, show(value))
  return [first, count]
}

function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function fail(place: Place, expected: string, was: string): never {
  throw new KvError(
    'ERR_KV_BAD_TRACE_LINE',
    `Line ${place.line} of ${place.path} cannot be read: ${expected} was expected, there was ${was}.`,
  )
}

function show(value: unknown): string {
  return shorten(JSON.stringify(value) ?? String(value))
}

function shorten(text: string): string {
  const printable = text.replace(/[^\x20-\x7e]/g, '?').trim()
  return printable.length <= MAX_SHOWN ? `'${printable}'` : `'${printable.slice(0, MAX_SHOWN)}...'`
}
