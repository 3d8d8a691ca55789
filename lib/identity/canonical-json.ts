/**
 * One text for one value: JSON with sorted keys and nothing that JSON would drop or change silently, so that it can be
 * hashed. Different values have different texts.
 */
import { KvError } from '../errors.js'

const MAX_DEPTH = 64

function refuse(path: string, what: string): never {
  throw new KvError(
    'ERR_KV_INVALID_VALUE',
    `${path} is ${what}; an identity is made of plain objects, arrays, strings, finite numbers, true, false and null.`,
  )
}

function isPlain(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value)
  // A plain object of another realm has a prototype of its own, whose prototype is null.
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

function write(value: unknown, path: string, depth: number): string {
  if (depth > MAX_DEPTH) refuse(path, `nested more than ${MAX_DEPTH} levels deep (or contains itself)`)
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value)
    case 'number':
      return Number.isFinite(value) ? JSON.stringify(value) : refuse(path, `the number ${value}`)
    case 'boolean':
      return String(value)
    case 'object':
      break
    default:
      return refuse(path, `of type ${typeof value}`)
  }
  if (value === null) return 'null'
  if (Array.isArray(value)) {
    const entries = Array.from(value as unknown[], (entry, place) => write(entry, `${path}[${place}]`, depth + 1))
    return `[${entries.join(',')}]`
  }
  if (!isPlain(value)) return refuse(path, `an object of class ${value.constructor?.name ?? 'unknown'}`)
  const entries = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${write(value[key], `${path}.${key}`, depth + 1)}`)
  return `{${entries.join(',')}}`
}

/**
 * The canonical JSON of a value: keys sorted by UTF-16 code unit, no white space.
 *
 * @param name - what the value is called in an error
 * @throws KvError ERR_KV_INVALID_VALUE for anything that is not plain data: undefined, NaN, a Date, a Map, a cycle
 */
export function canonicalJson(value: unknown, name: string): string {
  return write(value, name, 0)
}
