/**
 * Replays a trace against one tier without bytes, with the block accounting and eviction policies that the block manager
 * itself uses. Deterministic: the same trace, policy and capacity give the same hits.
 */
import { type BlockFacts, GroupBlocks } from '../../blocks/group-blocks.js'
import { KvError } from '../../errors.js'
import { HASH_WORDS } from '../../native/sizes.js'
import type { Trace } from './load-trace.js'

/** How large the tier is. */
export type ReplayCapacity =
  | { /** Whole blocks, at least 1. */ readonly blocks: number }
  | {
      /** Share of the trace's unique blocks, above 0; rounded to the nearest block, at least 1. */ readonly percent: number
    }

/** What {@link replayTrace} needs to know. */
export interface ReplayOptions {
  readonly capacity: ReplayCapacity
  /** Name of an eviction policy. */
  readonly policy: string
  /** Called now and then with the requests done and their number. */
  readonly onProgress?: (requests: number, total: number) => void
}

/** What a replay found. */
export interface ReplayResult {
  readonly trace: string
  readonly requests: number
  readonly references: number
  readonly uniqueBlocks: number
  readonly capacityBlocks: number
  readonly policy: string
  /** References that were leading blocks held in the tier. */
  readonly hits: number
  /** Hits in percent of all references, not rounded. */
  readonly hitRatePercent: number
}

const TIER = 0
/** Blocks between two pauses for the event loop: some ten milliseconds. */
const BLOCKS_A_TURN = 65_536

/**
 * The blocks of a capacity.
 *
 * @throws KvError `ERR_KV_INVALID_VALUE` for anything that is not a positive number (of whole blocks)
 */
export function capacityOf(trace: Trace, capacity: ReplayCapacity): number {
  if ('blocks' in capacity) {
    if (Number.isSafeInteger(capacity.blocks) && capacity.blocks >= 1) return capacity.blocks
    throw new KvError('ERR_KV_INVALID_VALUE', `A capacity must be whole blocks, at least 1, but is ${capacity.blocks}.`)
  }
  const { percent } = capacity
  if (!Number.isFinite(percent) || percent <= 0) {
    throw new KvError('ERR_KV_INVALID_VALUE', `A capacity in percent must be above 0, but is ${percent}.`)
  }
  return Math.max(1, Math.round((trace.uniqueBlocks * percent) / 100))
}

/**
 * Serves every request of a trace in turn. A request hits its longest held prefix; its blocks cannot be evicted while it
 * is served; then the rest of its first `capacityBlocks` blocks is stored, and all of these count as used, last to first.
 *
 * @throws KvError `ERR_KV_UNKNOWN_POLICY`, `ERR_KV_INVALID_VALUE`
 */
export async function replayTrace(trace: Trace, options: ReplayOptions): Promise<ReplayResult> {
  const capacityBlocks = capacityOf(trace, options.capacity)
  const tier = new ReplayTier(trace, capacityBlocks, options.policy)
  let hits = 0
  let pause = BLOCKS_A_TURN
  for (let request = 0; request < trace.requests; request++) {
    const from = trace.starts[request]!
    const to = trace.starts[request + 1]!
    hits += tier.serve(from, to, request + 1)
    pause -= to - from + 1
    if (pause > 0) continue
    pause = BLOCKS_A_TURN
    options.onProgress?.(request + 1, trace.requests)
    await new Promise(setImmediate)
  }
  options.onProgress?.(trace.requests, trace.requests)
  return {
    trace: trace.name,
    requests: trace.requests,
    references: trace.references,
    uniqueBlocks: trace.uniqueBlocks,
    capacityBlocks,
    policy: options.policy,
    hits,
    hitRatePercent: trace.references === 0 ? 0 : (hits / trace.references) * 100,
  }
}

/** The one tier, and the request that it serves. */
class ReplayTier {
  readonly #blocks: GroupBlocks
  readonly #nodes: Int32Array
  readonly #nodeHashes: Uint32Array
  readonly #capacity: number
  /** The request's hashes and entries. */
  readonly #hashes: Uint32Array
  readonly #entries: Int32Array
  readonly #facts: { -readonly [Fact in keyof BlockFacts]: BlockFacts[Fact] }

  constructor(trace: Trace, capacityBlocks: number, policy: string) {
    // More slots than blocks change nothing but memory.
    this.#capacity = Math.min(capacityBlocks, Math.max(1, trace.uniqueBlocks))
    this.#blocks = new GroupBlocks({ tiers: [{ slotCount: this.#capacity }], policy, prefixClosed: true })
    this.#nodes = trace.nodes
    this.#nodeHashes = hashNodes(trace.uniqueBlocks)
    this.#hashes = new Uint32Array(trace.longestRequest * HASH_WORDS)
    this.#entries = new Int32Array(trace.longestRequest)
    this.#facts = { depth: 0, priority: 0, expiresAtS: 0, tenant: 0 }
  }

  /** Serves the request whose blocks are `nodes[from]` to `nodes[to]`; how many leading ones were held. */
  serve(from: number, to: number, tick: number): number {
    const blocks = this.#blocks
    const entries = this.#entries
    const length = to - from
    for (let i = 0; i < length; i++) this.#copyHash(this.#nodes[from + i]!, i)
    const held = blocks.walk(this.#hashes, length, entries, 0)
    const count = Math.min(length, this.#capacity)
    if (count === 0) return 0
    // A pinned tail keeps everything before it: leaves go first.
    if (held > 0) blocks.pin(entries[held - 1]!, TIER)
    for (let i = held; i < count; i++) {
      const slot = this.#makeRoom()
      this.#facts.depth = i
      const entry = blocks.begin(this.#hashes, i, i === 0 ? -1 : entries[i - 1]!, this.#facts)
      blocks.assign(entry, TIER, slot)
      blocks.publish(entry, TIER, 1)
      if (i > 0) blocks.unpin(entries[i - 1]!, TIER)
      entries[i] = entry
    }
    blocks.touch(entries, count, tick)
    blocks.unpin(entries[count - 1]!, TIER)
    return held
  }

  #makeRoom(): number {
    const free = this.#blocks.takeFree(TIER)
    if (free >= 0) return free
    const victim = this.#blocks.victim(TIER)
    if (victim < 0 || !this.#blocks.evict(victim, TIER)) {
      throw new KvError('ERR_KV_INTERNAL', `No block of ${this.#capacity} could leave during a replay.`)
    }
    return this.#blocks.takeFree(TIER)
  }

  #copyHash(node: number, at: number): void {
    const words = this.#nodeHashes
    const target = this.#hashes
    for (let word = 0; word < HASH_WORDS; word++) target[at * HASH_WORDS + word] = words[node * HASH_WORDS + word]!
  }
}

/** A hash for every node: different for different nodes, and its first word evenly spread, as a digest's is. */
function hashNodes(count: number): Uint32Array {
  const hashes = new Uint32Array(count * HASH_WORDS)
  for (let node = 0; node < count; node++) {
    let mixed = Math.imul(node ^ (node >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    hashes[node * HASH_WORDS] = mixed ^ (mixed >>> 16)
    hashes[node * HASH_WORDS + 1] = node
  }
  return hashes
}
