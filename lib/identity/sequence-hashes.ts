/**
 * The identities of a sequence's blocks: a SHA-256 chain over fingerprint, tenant salt, tokens and extra keys that grows as
 * the sequence does. Each whole block is hashed once. JavaScript thread only.
 */
import { hash } from 'node:crypto'
import { isInt32Array, isUint32Array } from 'node:util/types'

import { integer, invalidType, invalidValue, KvError } from '../errors.js'
import { HASH_BYTES, HASH_WORDS } from '../native/sizes.js'
import { BlockKeys, type ExtraKey, type ExtraKeyAt, encodeKey, NO_KEYS } from './extra-keys.js'
import { lengthPrefix } from './hash-fallback.js'
import { MAX_TOKENS_PER_BLOCK } from './layer-groups.js'
import type { TokenHasher } from './token-hasher.js'

export type { ExtraKey, ExtraKeyAt } from './extra-keys.js'

/** Tokens as {@link SequenceHashes.append} takes them: integers from 0 to 4294967295. */
export type Tokens = Uint32Array | Int32Array | readonly number[]

/** What a sequence's identity is made of. */
export interface SequenceHashesOptions {
  /** 32 bytes, from `fingerprintOf`. */
  readonly fingerprint: Uint8Array
  /** 32 bytes, from `saltOf`. */
  readonly salt: Uint8Array
  readonly tokensPerBlock: number
  readonly hasher: TokenHasher
  /** What changes every block's KV, a LoRA adapter for example; order counts. */
  readonly extraKeys?: readonly ExtraKey[]
  /** What changes the KV from one token on, images for example; bound into the block that holds the token. */
  readonly extraKeysAt?: readonly ExtraKeyAt[]
}

/** Tokens that `prepare` hashes on the JavaScript thread at most, before it goes to an engine thread (about 0.3 ms). */
export const SYNC_TOKENS = 4_096

/** Tokens a sequence may have. */
export const MAX_SEQUENCE_TOKENS: number = 2 ** 28

const ROOT_DOMAIN = 'kvtier sequence root 1'
const FIRST_CAPACITY_TOKENS = 256

function hashOf(name: string, value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) return invalidType(name, `a Uint8Array of ${HASH_BYTES} bytes`, value)
  if (value.length !== HASH_BYTES) return invalidValue(name, `${HASH_BYTES} bytes`, `${value.length} bytes`)
  return value
}

function rootOf(fingerprint: Uint8Array, salt: Uint8Array, extraKeys: unknown): Uint8Array {
  if (!Array.isArray(extraKeys)) invalidType('extraKeys', 'an array of strings and Uint8Arrays', extraKeys)
  const keys = Array.from(extraKeys as readonly unknown[], (key, place) => encodeKey(`extraKeys[${place}]`, key))
  const fields = [Buffer.from(ROOT_DOMAIN, 'latin1'), fingerprint, salt, Buffer.concat(keys)]
  const text = Buffer.concat(fields.flatMap((field) => [lengthPrefix(field.length), field]))
  return new Uint8Array(hash('sha256', text, 'buffer'))
}

function invalidToken(index: number, value: unknown): never {
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value)
  throw new KvError(
    'ERR_KV_INVALID_TOKEN',
    `Token ${index} is ${shown}; a token is an integer between 0 and 4294967295. Nothing was appended.`,
  )
}

/** How many tokens there are to read; throws when they are none, or in a buffer that was detached or made smaller. */
function countOf(tokens: Tokens): number {
  if (!isUint32Array(tokens) && !isInt32Array(tokens)) {
    if (!Array.isArray(tokens)) invalidType('tokens', 'a Uint32Array, an Int32Array or an array of numbers', tokens)
    return tokens.length
  }
  if (tokens.length > 0) return tokens.length
  try {
    tokens.at(0)
    return 0
  } catch (error) {
    throw new KvError(
      'ERR_KV_DETACHED_ARRAY',
      'The tokens are in a typed array whose buffer was transferred away or made smaller; append a copy of them.',
      { cause: error },
    )
  }
}

/** The hashes of one sequence; see the file's first lines. */
export class SequenceHashes {
  readonly tokensPerBlock: number
  /** The chain's first parent: 32 bytes over fingerprint, salt and the sequence's extra keys. */
  readonly root: Uint8Array
  readonly #hasher: TokenHasher
  readonly #keys: BlockKeys
  #tokens: Uint32Array = new Uint32Array(FIRST_CAPACITY_TOKENS)
  #tokenCount = 0
  #words: Uint32Array
  #hashedCount = 0
  #preparing: Promise<void> | null = null

  /** @throws KvError ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE, naming the option */
  constructor(options: SequenceHashesOptions) {
    this.tokensPerBlock = integer('tokensPerBlock', options.tokensPerBlock, 1, MAX_TOKENS_PER_BLOCK)
    this.root = rootOf(
      hashOf('fingerprint', options.fingerprint),
      hashOf('salt', options.salt),
      options.extraKeys ?? [],
    )
    this.#hasher = options.hasher
    this.#keys = new BlockKeys(this.tokensPerBlock)
    this.#words = new Uint32Array(HASH_WORDS * Math.ceil(FIRST_CAPACITY_TOKENS / this.tokensPerBlock))
    if (options.extraKeysAt !== undefined) this.#keys.add('extraKeysAt', options.extraKeysAt, 0)
  }

  /** Tokens appended so far. */
  get tokenCount(): number {
    return this.#tokenCount
  }

  /** Whole blocks among them. */
  get blockCount(): number {
    return Math.floor(this.#tokenCount / this.tokensPerBlock)
  }

  /** Blocks hashed so far; at most {@link blockCount}. */
  get hashedCount(): number {
    return this.#hashedCount
  }

  /** The tokens, as a view: valid until the next append, not to be written. */
  get tokens(): Uint32Array {
    return this.#tokens.subarray(0, this.#tokenCount)
  }

  /** The hashes of the first {@link hashedCount} blocks, 8 words each: a view, valid until the next append, not to be written. */
  get words(): Uint32Array {
    return this.#words.subarray(0, this.#hashedCount * HASH_WORDS)
  }

  /** The bytes of {@link words}, 32 a block. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.#words.buffer, 0, this.#hashedCount * HASH_BYTES)
  }

  /**
   * Adds tokens at the end, all or none. A typed array is copied, so the caller may reuse it at once.
   *
   * @param extraKeysAt - keys of the new tokens, by their place in the whole sequence
   * @throws KvError ERR_KV_INVALID_TOKEN with place and value; ERR_KV_DETACHED_ARRAY; ERR_KV_INVALID_TYPE when it is no array
   * of tokens; ERR_KV_INVALID_VALUE when the sequence would be too long or a key names an earlier token
   */
  append(tokens: Tokens, extraKeysAt?: readonly ExtraKeyAt[]): void {
    const start = this.#tokenCount
    const count = countOf(tokens)
    this.#reserve(count)
    if (isUint32Array(tokens)) this.#tokens.set(tokens.subarray(0, count), start)
    else if (isInt32Array(tokens)) this.#copySigned(tokens, count)
    else this.#copyNumbers(tokens, count)
    if (extraKeysAt !== undefined) this.#keys.add('extraKeysAt', extraKeysAt, start)
    this.#tokenCount = start + count
  }

  /**
   * Hashes every whole block that is not hashed yet, before it returns: about 60 ns a token.
   *
   * @returns how many blocks are hashed now
   */
  hashBlocks(): number {
    const target = this.blockCount
    while (this.#hashedCount < target) this.#hashRun(this.#hashedCount, this.#endOfRun(this.#hashedCount, target))
    return target
  }

  /**
   * The same, on an engine thread when more than {@link SYNC_TOKENS} tokens are waiting. Tokens may be appended meanwhile.
   *
   * @returns when every block that was whole at the call is hashed
   */
  async prepare(): Promise<void> {
    const target = this.blockCount
    if ((target - this.#hashedCount) * this.tokensPerBlock <= SYNC_TOKENS) {
      this.hashBlocks()
      return
    }
    // One at a time: a second caller would hash the same blocks again. The first one's failure is the first one's.
    while (this.#preparing !== null) await this.#preparing.catch(() => undefined)
    if (this.#hashedCount >= target) return
    this.#preparing = this.#prepareTo(target)
    try {
      await this.#preparing
    } finally {
      this.#preparing = null
    }
  }

  #copySigned(tokens: Int32Array, count: number): void {
    for (let index = 0; index < count; ++index) {
      const token = tokens[index]!
      if (token < 0) invalidToken(index, token)
      this.#tokens[this.#tokenCount + index] = token
    }
  }

  #copyNumbers(tokens: readonly unknown[], count: number): void {
    for (let index = 0; index < count; ++index) {
      const token = tokens[index]
      if (typeof token !== 'number' || token >>> 0 !== token) invalidToken(index, token)
      this.#tokens[this.#tokenCount + index] = token
    }
  }

  async #prepareTo(target: number): Promise<void> {
    let syncTokens = SYNC_TOKENS
    while (this.#hashedCount < target) {
      const first = this.#hashedCount
      const end = this.#endOfRun(first, target)
      const tokens = (end - first) * this.tokensPerBlock
      if (tokens <= syncTokens) {
        this.#hashRun(first, end)
        syncTokens -= tokens
        continue
      }
      const hashes = await this.#hasher.start(
        this.#parentOf(first),
        this.#tokensOf(first, end),
        this.tokensPerBlock,
        this.#keys.bytesOf(first),
      )
      this.#adopt(first, end, hashes)
      syncTokens = SYNC_TOKENS
    }
  }

  /** Blocks from `first` on that can be hashed in one call: a block with keys alone, or a run of blocks without. */
  #endOfRun(first: number, target: number): number {
    if (this.#keys.isEmpty) return target
    if (this.#keys.has(first)) return first + 1
    let end = first + 1
    while (end < target && !this.#keys.has(end)) ++end
    return end
  }

  #hashRun(first: number, end: number): void {
    const bytes = new Uint8Array(this.#words.buffer, first * HASH_BYTES, (end - first) * HASH_BYTES)
    const extra = this.#keys.isEmpty ? NO_KEYS : this.#keys.bytesOf(first)
    this.#hasher.hash(this.#parentOf(first), this.#tokensOf(first, end), this.tokensPerBlock, extra, bytes)
    this.#hashedCount = end
  }

  /** Takes over what an engine thread hashed; hashBlocks may have done the same, or more, meanwhile. */
  #adopt(first: number, end: number, hashes: Uint8Array): void {
    if (hashes.length !== (end - first) * HASH_BYTES) {
      throw new KvError('ERR_KV_INTERNAL', `${end - first} hashes were asked for, ${hashes.length} bytes came back.`)
    }
    if (this.#hashedCount >= end) return
    new Uint8Array(this.#words.buffer).set(hashes, first * HASH_BYTES)
    this.#hashedCount = end
  }

  #parentOf(block: number): Uint8Array {
    return block === 0 ? this.root : new Uint8Array(this.#words.buffer, (block - 1) * HASH_BYTES, HASH_BYTES)
  }

  #tokensOf(first: number, end: number): Uint32Array {
    return this.#tokens.subarray(first * this.tokensPerBlock, end * this.tokensPerBlock)
  }

  /** Makes room for `more` tokens and for the hashes of their blocks. */
  #reserve(more: number): void {
    const needed = this.#tokenCount + more
    if (needed > MAX_SEQUENCE_TOKENS) {
      invalidValue('tokens', `${MAX_SEQUENCE_TOKENS} in a sequence at most`, `${needed} of them`)
    }
    if (needed > this.#tokens.length) {
      const grown = new Uint32Array(Math.max(needed, this.#tokens.length * 2))
      grown.set(this.tokens)
      this.#tokens = grown
    }
    const neededWords = Math.floor(needed / this.tokensPerBlock) * HASH_WORDS
    if (neededWords > this.#words.length) {
      const grown = new Uint32Array(Math.max(neededWords, this.#words.length * 2))
      grown.set(this.words)
      this.#words = grown
    }
  }
}
