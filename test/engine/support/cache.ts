/** Caches for tests: a manager opened for a context, and the cache bound to it, closed after the test in order. */
import type { LlamaContext, LlamaModel } from 'node-llama-cpp'
import { BlockManager } from '../../../lib/block-manager.js'
import {
  bindNodeLlamaCpp,
  describeNodeLlamaCpp,
  type NodeLlamaCppCache,
} from '../../../lib/connectors/node-llama-cpp/index.js'
import type { ManagerOptions } from '../../../lib/options.js'

const MiB = 1024 * 1024

/** What {@link withCache} gives a test. */
export interface BoundCache {
  readonly manager: BlockManager
  readonly cache: NodeLlamaCppCache
  /** Everything that the cache told of its failures. */
  readonly failures: string[]
}

/** Options of {@link withCache}: the manager's, and how the cache is bound. */
export interface CacheSetup {
  readonly tokensPerBlock?: number
  readonly manager?: Partial<ManagerOptions>
  readonly bind?: Partial<Parameters<typeof bindNodeLlamaCpp>[1]>
}

/** A cache for `context`, of 64 MiB of host memory where nothing else is asked for; closed after `run`. */
export async function withCache<T>(
  model: LlamaModel,
  context: LlamaContext,
  setup: CacheSetup,
  run: (bound: BoundCache) => Promise<T>,
): Promise<T> {
  const described = await describeNodeLlamaCpp({
    model,
    context,
    ...(setup.bind?.sequence === undefined ? {} : { sequence: setup.bind.sequence }),
    ...(setup.tokensPerBlock === undefined ? {} : { tokensPerBlock: setup.tokensPerBlock }),
  })
  const manager = await BlockManager.open({ ...described, host: { capacityBytes: 64 * MiB }, ...setup.manager })
  try {
    const cache = await bindNodeLlamaCpp(manager, { model, context, onboardWhen: 'held', ...setup.bind })
    const failures: string[] = []
    cache.on('failed', ({ what, code, message }) => failures.push(`${what}: ${code}: ${message}`))
    try {
      return await run({ manager, cache, failures })
    } finally {
      await cache.close()
    }
  } finally {
    await manager.close()
  }
}
