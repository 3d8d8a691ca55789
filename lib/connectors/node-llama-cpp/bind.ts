/**
 * From a manager and a context to a cache.
 */
import type { BlockManager } from '../../block-manager.js'
import { integer, invalidValue, optionsOf } from '../../errors.js'
import { NodeLlamaCppCache } from './cache.js'
import type { BindOptions } from './cache-options.js'
import type { BlockMeta } from './context.js'
import { checkTarget, TARGET_FIELDS } from './describe.js'
import { probe } from './probe.js'
import { StateImages } from './state-images.js'

const BIND_FIELDS = [...TARGET_FIELDS, 'tenant', 'minGainTokens', 'onboardWhen', 'saveAt']
/** Images that are kept between requests: one is read from while another is written. */
const IMAGES = 2

/**
 * Binds a node-llama-cpp context to a block manager. Saves a state of two blocks on a spare sequence, cuts it, puts it
 * together again and compares: only where the bytes are equal are blocks used. Where they are not, or the engine's state
 * is of an unknown kind, the cache is off, says why in `stats().reason`, and sequences work as without it.
 *
 * @param manager - opened with what `describeNodeLlamaCpp` says of the same context
 * @example
 * ```ts
 * const cache = await bindNodeLlamaCpp(manager, { model, context })
 * const sequence = context.getSequence()
 * cache.attach(sequence, { tenant: 'alice' })
 * const session = new LlamaChatSession({ contextSequence: sequence })
 * ```
 * @throws KvError ERR_KV_LAYOUT_MISMATCH when the manager was opened for something else; ERR_KV_INVALID_TYPE or
 * ERR_KV_INVALID_VALUE naming the option; ERR_KV_CLOSED; ERR_KV_UNSUPPORTED for an engine without what this needs
 */
export async function bindNodeLlamaCpp(manager: BlockManager, options: BindOptions): Promise<NodeLlamaCppCache> {
  const given = optionsOf('options', options, BIND_FIELDS)
  const target = checkTarget(given)
  const saveAt = given.saveAt ?? 'turn-end'
  if (saveAt !== 'turn-end' && saveAt !== 'before-eviction') {
    invalidValue('saveAt', "'turn-end' or 'before-eviction'", saveAt)
  }
  const onboardWhen = given.onboardWhen ?? 'faster'
  if (onboardWhen !== 'faster' && onboardWhen !== 'held') {
    invalidValue('onboardWhen', "'faster' or 'held'", onboardWhen)
  }
  const { tokensPerBlock } = manager.layout
  const minGainTokens = integer('minGainTokens', given.minGainTokens ?? tokensPerBlock, 1)
  const tenant = (given.tenant ?? 'default') as BlockMeta['tenant']
  manager.sequence([], { tenant })
  const { binding, completions } = manager.internals.context
  const images = new StateImages(binding, completions, IMAGES)
  try {
    const { context, reason } = await probe(manager, target, images)
    return new NodeLlamaCppCache({
      manager,
      engine: target.context,
      images,
      context,
      reason,
      options: { tenant, minGainTokens, saveAt, onboardWhen },
    })
  } catch (error) {
    await images.close()
    throw error
  }
}
