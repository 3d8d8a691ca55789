/**
 * Writes GGUF files (version 3, little endian): header, metadata and tensor table first, then each tensor's bytes as they
 * are made, so that memory stays small whatever the file's size.
 */
import { writeSync } from 'node:fs'

/** Where every tensor starts: a multiple of this from the start of the data, which is itself so aligned. */
export const ALIGNMENT = 32

const MAGIC = 0x46554747
const VERSION = 3
const ARRAY = 9

/** The number of each value type in the file. */
const VALUE_TYPES = /** @type {const} */ ({ u32: 4, i32: 5, f32: 6, bool: 7, string: 8 })

/** Each tensor type: its number in the file, and how many elements are how many bytes. */
const TENSOR_TYPES = /** @type {const} */ ({
  f32: { code: 0, elements: 1, bytes: 4 },
  f16: { code: 1, elements: 1, bytes: 2 },
  q8_0: { code: 8, elements: 32, bytes: 34 },
})

/** @typedef {keyof typeof VALUE_TYPES} ValueType */
/** @typedef {keyof typeof TENSOR_TYPES} TensorType */
/** @typedef {number | boolean | string} Value */
/**
 * One metadata entry. A value that is an array is written as an array of that type.
 *
 * @typedef {{ key: string, type: ValueType, value: Value | readonly Value[] }} Metadata
 */
/**
 * One tensor. `dims` in the file's order: the length of a row first. `chunks` makes its bytes in order; a chunk's memory
 * may be used again for the next.
 *
 * @typedef {{ name: string, dims: readonly number[], type: TensorType, chunks: () => Iterable<Uint8Array> }} Tensor
 */

/** Bytes of little-endian numbers and strings, one after the other. */
class Bytes {
  /** @type {Buffer[]} */
  #pieces = []
  /** How many bytes there are. */
  length = 0

  /** @param {Buffer} piece */
  #add(piece) {
    this.#pieces.push(piece)
    this.length += piece.length
  }

  /** @param {number} value */
  u32(value) {
    const piece = Buffer.alloc(4)
    piece.writeUInt32LE(value)
    this.#add(piece)
  }

  /** @param {number} value */
  u64(value) {
    const piece = Buffer.alloc(8)
    piece.writeBigUInt64LE(BigInt(value))
    this.#add(piece)
  }

  /** @param {string} text */
  string(text) {
    const piece = Buffer.from(text, 'utf8')
    this.u64(piece.length)
    this.#add(piece)
  }

  /** @param {ValueType} type @param {Value} value */
  value(type, value) {
    if (type === 'string') return this.string(String(value))
    const piece = Buffer.alloc(type === 'bool' ? 1 : 4)
    if (type === 'u32') piece.writeUInt32LE(Number(value))
    else if (type === 'i32') piece.writeInt32LE(Number(value))
    else if (type === 'f32') piece.writeFloatLE(Number(value))
    else piece.writeUInt8(value ? 1 : 0)
    this.#add(piece)
  }

  /** @returns {Buffer} */
  all() {
    return Buffer.concat(this.#pieces)
  }
}

/** @param {number} bytes @returns {number} rounded up to where a tensor may start */
function aligned(bytes) {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

/** How many elements a tensor has. @param {Tensor} tensor */
export function elementsOf(tensor) {
  return tensor.dims.reduce((product, dim) => product * dim, 1)
}

/** How many bytes a tensor takes, without what aligns the next. @param {Tensor} tensor */
export function bytesOf(tensor) {
  const { elements, bytes } = TENSOR_TYPES[tensor.type]
  if ((tensor.dims[0] ?? 0) % elements !== 0) {
    throw new Error(`${tensor.name}: rows of ${tensor.dims[0]} elements cannot be ${tensor.type}`)
  }
  return (elementsOf(tensor) / elements) * bytes
}

/**
 * Everything before the first tensor's bytes.
 *
 * @param {readonly Metadata[]} metadata
 * @param {readonly Tensor[]} tensors
 * @returns {Buffer}
 */
function head(metadata, tensors) {
  const bytes = new Bytes()
  bytes.u32(MAGIC)
  bytes.u32(VERSION)
  bytes.u64(tensors.length)
  bytes.u64(metadata.length)
  for (const { key, type, value } of metadata) {
    bytes.string(key)
    if (Array.isArray(value)) {
      bytes.u32(ARRAY)
      bytes.u32(VALUE_TYPES[type])
      bytes.u64(value.length)
      for (const each of value) bytes.value(type, each)
    } else {
      bytes.u32(VALUE_TYPES[type])
      bytes.value(type, /** @type {Value} */ (value))
    }
  }
  let offset = 0
  for (const tensor of tensors) {
    bytes.string(tensor.name)
    bytes.u32(tensor.dims.length)
    for (const dim of tensor.dims) bytes.u64(dim)
    bytes.u32(TENSOR_TYPES[tensor.type].code)
    bytes.u64(offset)
    offset += aligned(bytesOf(tensor))
  }
  return Buffer.concat([bytes.all(), Buffer.alloc(aligned(bytes.length) - bytes.length)])
}

/**
 * How many bytes the file will have.
 *
 * @param {readonly Metadata[]} metadata
 * @param {readonly Tensor[]} tensors
 * @returns {number}
 */
export function sizeOf(metadata, tensors) {
  return head(metadata, tensors).length + tensors.reduce((sum, tensor) => sum + aligned(bytesOf(tensor)), 0)
}

/**
 * Writes all of a file, from its start.
 *
 * @param {number} file - a descriptor that is open for writing
 * @param {readonly Metadata[]} metadata
 * @param {readonly Tensor[]} tensors
 * @param {(bytesWritten: number) => void} [onProgress] - called after every chunk with the sum so far
 */
export function writeGguf(file, metadata, tensors, onProgress = () => {}) {
  let written = 0
  /** @param {Uint8Array} bytes */
  const write = (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
    written += bytes.length
    onProgress(written)
  }
  write(head(metadata, tensors))
  for (const tensor of tensors) {
    const before = written
    for (const chunk of tensor.chunks()) write(chunk)
    const size = written - before
    const expected = bytesOf(tensor)
    if (size !== expected) throw new Error(`${tensor.name}: made ${size} bytes where its shape asks for ${expected}`)
    const gap = aligned(expected) - expected
    if (gap > 0) write(new Uint8Array(gap))
  }
}
