/**
 * A whole trace in memory, compactly: every block is a node, numbered by first appearance, one for each (node before, id).
 * That keeps prefix semantics whatever the ids mean.
 */
import { type ReadTraceOptions, readTrace, traceName } from './trace.js'

/** A trace as paths through a tree of blocks. */
export interface Trace {
  readonly name: string
  /** How many requests there are. */
  readonly requests: number
  /** How many blocks all requests have together. */
  readonly references: number
  /** How many different blocks there are: nodes are numbered below this. */
  readonly uniqueBlocks: number
  /** Blocks of the longest request. */
  readonly longestRequest: number
  /** Request r's blocks are `nodes[starts[r]]` to `nodes[starts[r + 1]]`. */
  readonly starts: Float64Array
  /** The requests' blocks, one request after the other. */
  readonly nodes: Int32Array
  /** Milliseconds since the trace's start, a request each. */
  readonly timestampsMs: Float64Array
}

/**
 * Reads a whole trace.
 *
 * @throws KvError as {@link readTrace}
 */
export async function loadTrace(path: string, options: ReadTraceOptions = {}): Promise<Trace> {
  const builder = new TraceBuilder()
  for await (const { ids, timestampMs } of readTrace(path, options)) builder.add(ids, timestampMs)
  return builder.finish(traceName(path))
}

/** Collects requests, wherever they come from, into a {@link Trace}. */
export class TraceBuilder {
  readonly #tree = new NodeTable()
  readonly #starts: number[] = [0]
  readonly #timestampsMs: number[] = []
  #nodes = new Int32Array(1024)
  #references = 0
  #longest = 0

  /** Appends a request. */
  add(ids: ArrayLike<number>, timestampMs: number): void {
    if (this.#references + ids.length > this.#nodes.length) this.#grow(this.#references + ids.length)
    let parent = -1
    for (let i = 0; i < ids.length; i++) {
      parent = this.#tree.nodeOf(parent, ids[i]!)
      this.#nodes[this.#references++] = parent
    }
    this.#longest = Math.max(this.#longest, ids.length)
    this.#starts.push(this.#references)
    this.#timestampsMs.push(timestampMs)
  }

  /** The trace of everything added. */
  finish(name: string): Trace {
    return {
      name,
      requests: this.#timestampsMs.length,
      references: this.#references,
      uniqueBlocks: this.#tree.size,
      longestRequest: this.#longest,
      starts: Float64Array.from(this.#starts),
      nodes: this.#nodes.slice(0, this.#references),
      timestampsMs: Float64Array.from(this.#timestampsMs),
    }
  }

  #grow(needed: number): void {
    const nodes = new Int32Array(Math.max(needed, this.#nodes.length * 2))
    nodes.set(this.#nodes)
    this.#nodes = nodes
  }
}

/** Numbers for pairs of (node before, id): open addressing, doubled when half full. */
class NodeTable {
  #parents = new Int32Array(512)
  #ids = new Float64Array(512)
  /** Node + 1 in each bucket; 0 = empty. */
  #buckets = new Int32Array(1024)
  #size = 0

  get size(): number {
    return this.#size
  }

  nodeOf(parent: number, id: number): number {
    const mask = this.#buckets.length - 1
    let bucket = mix(parent, id) & mask
    for (let node = this.#buckets[bucket]! - 1; node >= 0; node = this.#buckets[bucket]! - 1) {
      if (this.#parents[node] === parent && this.#ids[node] === id) return node
      bucket = (bucket + 1) & mask
    }
    const node = this.#size++
    this.#parents[node] = parent
    this.#ids[node] = id
    this.#buckets[bucket] = node + 1
    if (this.#size === this.#parents.length) this.#grow()
    return node
  }

  #grow(): void {
    const parents = new Int32Array(this.#size * 2)
    parents.set(this.#parents)
    this.#parents = parents
    const ids = new Float64Array(this.#size * 2)
    ids.set(this.#ids)
    this.#ids = ids
    const buckets = new Int32Array(this.#size * 4)
    const mask = buckets.length - 1
    for (let node = 0; node < this.#size; node++) {
      let bucket = mix(parents[node]!, ids[node]!) & mask
      while (buckets[bucket] !== 0) bucket = (bucket + 1) & mask
      buckets[bucket] = node + 1
    }
    this.#buckets = buckets
  }
}

function mix(parent: number, id: number): number {
  let hash = Math.imul(parent ^ (id / 2 ** 32), 0x9e3779b1) ^ Math.imul(id % 2 ** 32, 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return hash ^ (hash >>> 13)
}
