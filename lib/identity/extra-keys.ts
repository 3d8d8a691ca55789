/**
 * Extra keys: what changes a sequence's KV beside its tokens, such as a LoRA adapter (for the whole sequence) or an image
 * (for the block that holds its placeholder). Encoded so that no two lists of keys have the same bytes.
 */
import { invalidType, invalidValue, optionsOf } from '../errors.js'
import { lengthPrefix } from './hash-fallback.js'

/** A string or bytes; the string 'a' and the byte 97 are different keys. Hashed as they are, never parsed. */
export type ExtraKey = string | Uint8Array

/** A key that belongs to one token of the sequence: what was put there, an image's digest for example. */
export interface ExtraKeyAt {
  /** The token's place in the sequence, from 0. */
  readonly token: number
  readonly key: ExtraKey
}

/** A key may take this many bytes; hash larger things first. */
export const MAX_EXTRA_KEY_BYTES = 65_536

const STRING = Uint8Array.of(0)
const BYTES = Uint8Array.of(1)

/** One key: its kind, its length, its bytes. Strings as UTF-16, so that lone surrogates stay different. */
export function encodeKey(name: string, key: unknown): Uint8Array {
  const isText = typeof key === 'string'
  if (!isText && !(key instanceof Uint8Array)) return invalidType(name, 'a string or a Uint8Array', key)
  const bytes = isText ? Buffer.from(key, 'utf16le') : key
  if (bytes.length > MAX_EXTRA_KEY_BYTES) {
    invalidValue(name, `at most ${MAX_EXTRA_KEY_BYTES} bytes`, `${bytes.length} bytes long`)
  }
  return Uint8Array.from(Buffer.concat([isText ? STRING : BYTES, lengthPrefix(bytes.length), bytes]))
}

/** The keys of each block, by block number; empty where a sequence has none. */
export class BlockKeys {
  readonly #tokensPerBlock: number
  readonly #blocks = new Map<number, { token: number; bytes: Uint8Array }[]>()

  constructor(tokensPerBlock: number) {
    this.#tokensPerBlock = tokensPerBlock
  }

  get isEmpty(): boolean {
    return this.#blocks.size === 0
  }

  /**
   * Adds keys; none is added when one is wrong.
   *
   * @param firstToken - the first token that may still get a key, because nothing from it on was read yet
   */
  add(name: string, keys: unknown, firstToken: number): void {
    if (!Array.isArray(keys)) invalidType(name, 'an array of { token, key }', keys)
    const added = Array.from(keys as readonly unknown[], (entry, place) => {
      const { token, key } = optionsOf(`${name}[${place}]`, entry, ['token', 'key'])
      if (typeof token !== 'number') return invalidType(`${name}[${place}].token`, 'a number', token)
      if (!Number.isSafeInteger(token) || token < firstToken) {
        return invalidValue(`${name}[${place}].token`, `an integer of at least ${firstToken}`, token)
      }
      return { token, bytes: encodeKey(`${name}[${place}].key`, key) }
    })
    for (const key of added) {
      const block = Math.floor(key.token / this.#tokensPerBlock)
      const list = this.#blocks.get(block) ?? []
      list.push(key)
      // A stable sort: two keys of one token keep the order in which they were given.
      list.sort((a, b) => a.token - b.token)
      this.#blocks.set(block, list)
    }
  }

  has(block: number): boolean {
    return this.#blocks.has(block)
  }

  /** The bytes to bind into the block: each key with its token's place inside the block. */
  bytesOf(block: number): Uint8Array {
    const keys = this.#blocks.get(block)
    if (keys === undefined) return NO_KEYS
    const first = block * this.#tokensPerBlock
    return Uint8Array.from(Buffer.concat(keys.flatMap((key) => [lengthPrefix(key.token - first), key.bytes])))
  }
}

/** The extra bytes of a block without keys. */
export const NO_KEYS: Uint8Array = new Uint8Array(0)
