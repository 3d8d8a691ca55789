/**
 * The most hits that any policy could have had on a trace, known only in hindsight. Every request that uses a block also
 * uses the block before it, so keeping the blocks whose next use is nearest keeps whole prefixes, and the optimum for
 * single blocks (with the right not to store) is the optimum for prefixes.
 */
import { BitTree } from '../../lib/blocks/bit-tree.js'
import type { Trace } from '../../lib/cli/replay/load-trace.js'

/** For every reference, the number of the next request that has the same block; `trace.requests` where there is none. */
export function nextUses(trace: Trace): Int32Array {
  const next = new Int32Array(trace.references)
  const seen = new Int32Array(trace.uniqueBlocks).fill(trace.requests)
  for (let request = trace.requests - 1; request >= 0; request--) {
    for (let at = trace.starts[request]!; at < trace.starts[request + 1]!; at++) {
      const node = trace.nodes[at]!
      next[at] = seen[node]!
      seen[node] = request
    }
  }
  return next
}

/**
 * Held blocks by their next use. All blocks of one next use lie on that request's path, and one that came earlier lies
 * deeper: had it been before another on the path, it would have been used with that one. So first come, first evicted is
 * deepest first.
 */
class HeldBlocks {
  readonly #heads: Int32Array
  readonly #tails: Int32Array
  readonly #behind: Int32Array
  /** Next uses that some block has, counted from the last request down, so that the latest is found first. */
  readonly #uses: BitTree
  readonly #requests: number
  readonly held: Uint8Array
  size = 0

  constructor(requests: number, blocks: number) {
    this.#requests = requests
    this.#heads = new Int32Array(requests).fill(-1)
    this.#tails = new Int32Array(requests).fill(-1)
    this.#behind = new Int32Array(blocks).fill(-1)
    this.#uses = new BitTree(Math.max(1, requests))
    this.held = new Uint8Array(blocks)
  }

  add(node: number, nextUse: number): void {
    const tail = this.#tails[nextUse]!
    if (tail < 0) {
      this.#heads[nextUse] = node
      this.#uses.add(this.#requests - 1 - nextUse)
    } else this.#behind[tail] = node
    this.#tails[nextUse] = node
    this.#behind[node] = -1
    this.held[node] = 1
    this.size++
  }

  /** The request comes: its blocks are taken out. */
  takeAll(request: number): void {
    for (let node = this.#heads[request]!; node >= 0; node = this.#behind[node]!) {
      this.held[node] = 0
      this.size--
    }
    this.#clear(request)
  }

  /** The block with the latest next use leaves, of several the deepest. */
  evict(): void {
    const request = this.#requests - 1 - this.#uses.firstFrom(0)
    const node = this.#heads[request]!
    this.held[node] = 0
    this.size--
    const behind = this.#behind[node]!
    if (behind >= 0) this.#heads[request] = behind
    else this.#clear(request)
  }

  #clear(request: number): void {
    if (this.#heads[request] === -1) return
    this.#heads[request] = -1
    this.#tails[request] = -1
    this.#uses.remove(this.#requests - 1 - request)
  }
}

/**
 * Hits of the optimum: leading blocks of each request that are held, over a tier of `capacityBlocks` that stores at most
 * the first `capacityBlocks` blocks of a request.
 */
export function optimumHits(trace: Trace, capacityBlocks: number): number {
  const next = nextUses(trace)
  const blocks = new HeldBlocks(trace.requests, trace.uniqueBlocks)
  let hits = 0
  for (let request = 0; request < trace.requests; request++) {
    const from = trace.starts[request]!
    const to = trace.starts[request + 1]!
    let at = from
    while (at < to && blocks.held[trace.nodes[at]!] === 1) at++
    hits += at - from
    blocks.takeAll(request)
    for (let last = Math.min(to, from + capacityBlocks) - 1; last >= from; last--) {
      if (next[last]! < trace.requests) blocks.add(trace.nodes[last]!, next[last]!)
    }
    while (blocks.size > capacityBlocks) blocks.evict()
  }
  return hits
}
