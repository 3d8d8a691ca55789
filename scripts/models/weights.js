/**
 * Seeded random weights, the same bytes on every machine: integer arithmetic, and of floating point only operations whose
 * results IEEE 754 fixes (sums, products, quotients and square roots).
 *
 * A weight is the sum of four random bytes, centred and scaled: close to a normal distribution, and one of 1,021 values,
 * so that f16 is a table and Q8_0 is integer arithmetic.
 */

/** Elements that are made at a time, about; a chunk is whole rows. */
const CHUNK_ELEMENTS = 64 * 1024
/** The middle of a sum of four bytes, and the largest distance from it. */
const MIDDLE = 510
/** The standard deviation of a sum of four bytes: the root of 4 * (256^2 - 1) / 12. */
const DEVIATION = Math.sqrt(21_845)
/** Elements of a Q8_0 block, and its bytes: an f16 scale and one byte each. */
const BLOCK = 32
const BLOCK_BYTES = 34

const floats = new Float32Array(1)
const words = new Uint32Array(floats.buffer)

/**
 * The bits of the f16 that is nearest to a number; of two equally near, the even one.
 *
 * @param {number} value
 * @returns {number}
 */
export function f16Bits(value) {
  floats[0] = value
  const bits = words[0] ?? 0
  const sign = (bits >>> 16) & 0x8000
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15
  const fraction = bits & 0x7fffff
  if (exponent >= 31) return exponent === 143 && fraction !== 0 ? sign | 0x7e00 : sign | 0x7c00
  if (exponent < -10) return sign
  // A subnormal's fraction has its leading one written out, and fewer bits.
  const drop = exponent > 0 ? 13 : 14 - exponent
  const whole = exponent > 0 ? (exponent << 23) | fraction : fraction | 0x800000
  const kept = whole >>> drop
  const rest = whole & ((1 << drop) - 1)
  const half = 1 << (drop - 1)
  const up = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0
  return sign | (kept + up)
}

/**
 * Four words for a generator from a text (FNV-1a), with the bits of each spread over all.
 *
 * @param {string} text
 * @returns {[number, number, number, number]}
 */
function seedWords(text) {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193)
  const next = () => {
    hash = (hash + 0x9e3779b9) | 0
    let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return mixed ^ (mixed >>> 16)
  }
  return [next(), next(), next(), next()]
}

/** Sums of four random bytes, from 0 to 1,020: a small fast counter-based generator (sfc32). */
export class ByteSums {
  /** @type {[number, number, number, number]} */
  #state

  /** @param {string} seed - any text; the same text gives the same sums */
  constructor(seed) {
    this.#state = seedWords(seed)
    this.fill(new Uint16Array(16))
  }

  /** @param {Uint16Array} into - gets the next sums */
  fill(into) {
    let [a, b, c, counter] = this.#state
    for (let i = 0; i < into.length; i += 1) {
      const word = (((a + b) | 0) + counter) | 0
      counter = (counter + 1) | 0
      a = b ^ (b >>> 9)
      b = (c + (c << 3)) | 0
      c = (((c << 21) | (c >>> 11)) + word) | 0
      into[i] = (word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24)
    }
    this.#state = [a, b, c, counter]
  }
}

/**
 * @param {Uint16Array} sums
 * @param {number} deviation
 * @returns {Uint8Array}
 */
function toF32(sums, deviation) {
  const unit = deviation / DEVIATION
  return new Uint8Array(Float32Array.from(sums, (sum) => (sum - MIDDLE) * unit).buffer)
}

/** @param {number} deviation @returns {(sums: Uint16Array) => Uint8Array} */
function f16Maker(deviation) {
  const unit = deviation / DEVIATION
  const table = Uint16Array.from({ length: 2 * MIDDLE + 1 }, (_, sum) => f16Bits((sum - MIDDLE) * unit))
  return (sums) => {
    const out = new Uint16Array(sums.length)
    for (let i = 0; i < sums.length; i += 1) out[i] = table[sums[i] ?? 0] ?? 0
    return new Uint8Array(out.buffer)
  }
}

/** @param {number} deviation @returns {(sums: Uint16Array) => Uint8Array} */
function q8Maker(deviation) {
  const unit = deviation / DEVIATION
  // The scale of a block by the largest distance in it.
  const scales = Uint16Array.from({ length: MIDDLE + 1 }, (_, largest) => f16Bits((largest * unit) / 127))
  return (sums) => {
    const out = new Uint8Array((sums.length / BLOCK) * BLOCK_BYTES)
    for (let first = 0, at = 0; first < sums.length; first += BLOCK, at += BLOCK_BYTES) {
      let largest = 0
      for (let i = first; i < first + BLOCK; i += 1) {
        const distance = Math.abs((sums[i] ?? 0) - MIDDLE)
        if (distance > largest) largest = distance
      }
      const scale = scales[largest] ?? 0
      out[at] = scale & 255
      out[at + 1] = scale >>> 8
      if (largest === 0) continue
      for (let i = 0; i < BLOCK; i += 1) {
        const value = (127 * ((sums[first + i] ?? 0) - MIDDLE)) / largest
        // Half away from zero; a byte keeps the low eight bits of a negative number, which are its two's complement.
        out[at + 2 + i] = value < 0 ? -Math.floor(0.5 - value) : Math.floor(value + 0.5)
      }
    }
    return out
  }
}

/**
 * The bytes of a tensor of random weights, some rows at a time. The same seed gives the same weights in every type, as near
 * as the type can say them.
 *
 * @param {string} seed
 * @param {readonly number[]} dims - the length of a row first
 * @param {import('./gguf-writer.js').TensorType} type
 * @param {number} deviation - the standard deviation
 * @param {(row: number) => boolean} [isZero] - rows that are all zero
 * @returns {Generator<Uint8Array>}
 */
export function* randomChunks(seed, dims, type, deviation, isZero) {
  const generator = new ByteSums(seed)
  const rowLength = dims[0] ?? 0
  const rows = dims.slice(1).reduce((product, dim) => product * dim, 1)
  const rowsAtOnce = Math.max(1, Math.floor(CHUNK_ELEMENTS / rowLength))
  const make =
    type === 'q8_0'
      ? q8Maker(deviation)
      : type === 'f16'
        ? f16Maker(deviation)
        : (/** @type {Uint16Array} */ sums) => toF32(sums, deviation)
  for (let row = 0; row < rows; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - row)
    const sums = new Uint16Array(count * rowLength)
    generator.fill(sums)
    for (let i = 0; isZero && i < count; i += 1) {
      if (isZero(row + i)) sums.fill(MIDDLE, i * rowLength, (i + 1) * rowLength)
    }
    yield make(sums)
  }
}

/**
 * The bytes of a tensor of one f32 value.
 *
 * @param {number} count
 * @param {number} value
 * @returns {Generator<Uint8Array>}
 */
export function* constantChunks(count, value) {
  yield new Uint8Array(new Float32Array(count).fill(value).buffer)
}
