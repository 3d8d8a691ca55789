/** Reads GGUF files of version 3, strictly and apart from what writes them, for tests. */

type Value = number | boolean | string | Value[]

/** One tensor of the table; `offset` counts from the start of the data. */
export interface GgufTensor {
  readonly name: string
  readonly dims: number[]
  readonly type: number
  readonly offset: number
}

/** What a file says. */
export interface GgufFile {
  readonly version: number
  readonly metadata: ReadonlyMap<string, Value>
  readonly tensors: readonly GgufTensor[]
  readonly dataStart: number
  /** The bytes of one tensor; throws where there is none of that name, or where the file ends before it. */
  bytesOf(name: string): Buffer
}

/** Elements and bytes of a block, by tensor type. */
const BLOCKS: Readonly<Record<number, readonly [number, number]>> = { 0: [1, 4], 1: [1, 2], 8: [32, 34] }

class Cursor {
  at = 0
  readonly #file: Buffer

  constructor(file: Buffer) {
    this.#file = file
  }

  #take(bytes: number): number {
    const start = this.at
    this.at += bytes
    return start
  }

  u32(): number {
    return this.#file.readUInt32LE(this.#take(4))
  }

  u64(): number {
    return Number(this.#file.readBigUInt64LE(this.#take(8)))
  }

  string(): string {
    const length = this.u64()
    const start = this.#take(length)
    if (this.at > this.#file.length) throw new Error('the file ends within a string')
    return this.#file.toString('utf8', start, this.at)
  }

  value(type: number): Value {
    if (type === 4) return this.u32()
    if (type === 5) return this.#file.readInt32LE(this.#take(4))
    if (type === 6) return this.#file.readFloatLE(this.#take(4))
    if (type === 7) return this.#file.readUInt8(this.#take(1)) === 1
    if (type === 8) return this.string()
    if (type !== 9) throw new Error(`value type ${type}`)
    const element = this.u32()
    const count = this.u64()
    return Array.from({ length: count }, () => this.value(element))
  }
}

/** Reads a whole file. */
export function readGguf(file: Buffer): GgufFile {
  const cursor = new Cursor(file)
  if (file.toString('latin1', 0, 4) !== 'GGUF') throw new Error('not a GGUF file')
  cursor.at = 4
  const version = cursor.u32()
  const tensorCount = cursor.u64()
  const entryCount = cursor.u64()
  const metadata = new Map<string, Value>()
  for (let i = 0; i < entryCount; i += 1) {
    const key = cursor.string()
    if (metadata.has(key)) throw new Error(`${key} is there twice`)
    metadata.set(key, cursor.value(cursor.u32()))
  }
  const tensors = Array.from({ length: tensorCount }, () => {
    const name = cursor.string()
    const dims = Array.from({ length: cursor.u32() }, () => cursor.u64())
    return { name, dims, type: cursor.u32(), offset: cursor.u64() }
  })
  const dataStart = Math.ceil(cursor.at / 32) * 32
  const bytesOf = (name: string): Buffer => {
    const tensor = tensors.find((each) => each.name === name)
    const block = tensor && BLOCKS[tensor.type]
    if (!tensor || !block) throw new Error(`no tensor ${name} of a known type`)
    const size = (tensor.dims.reduce((product, dim) => product * dim, 1) / block[0]) * block[1]
    const start = dataStart + tensor.offset
    if (start + size > file.length) throw new Error(`the file ends within ${name}`)
    return file.subarray(start, start + size)
  }
  return { version, metadata, tensors, dataStart, bytesOf }
}
