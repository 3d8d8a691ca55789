/** A least-recently-used cache as one writes it in a few lines, over a Map: what replaying a trace costs at least. */
import type { Trace } from '../../lib/cli/replay/load-trace.js'

/**
 * Replays a trace: hits are the leading blocks that are held. The blocks of a request are touched last to first, so its
 * hits are those of the replay with the policy `lru`.
 */
export function plainLruHits(trace: Trace, capacityBlocks: number): number {
  const held = new Map<number, true>()
  let hits = 0
  for (let request = 0; request < trace.requests; request++) {
    const from = trace.starts[request]!
    const to = trace.starts[request + 1]!
    let at = from
    while (at < to && held.has(trace.nodes[at]!)) at++
    hits += at - from
    for (let last = Math.min(to, from + capacityBlocks) - 1; last >= from; last--) {
      held.delete(trace.nodes[last]!)
      held.set(trace.nodes[last]!, true)
    }
    let over = held.size - capacityBlocks
    if (over <= 0) continue
    for (const oldest of held.keys()) {
      held.delete(oldest)
      if (--over === 0) break
    }
  }
  return hits
}
