/**
 * From a manager and a context to a cache.
 */
import { BlockManager } from '../../block-manager.js'
import { integer, invalidValue, isKvError, KvError, optionsOf } from '../../errors.js'
import { MIN_SECRET_BYTES, saltOf } from '../../identity/salt.js'
import type { ManagerOptions } from '../../options.js'
import { AdapterWatch } from './adapter-watch.js'
import { NodeLlamaCppCache } from './cache.js'
import type { BindOptions, CacheDefaults } from './cache-options.js'
import type { BlockMeta } from './context.js'
import {
  type CheckedTarget,
  checkTarget,
  type DescribeOptions,
  describeNodeLlamaCpp,
  TARGET_FIELDS,
} from './describe.js'
import { probe } from './probe.js'
import { StateImages } from './state-images.js'
import { ringOf } from './window-ring.js'

const BIND_FIELDS = [...TARGET_FIELDS, 'tenant', 'minGainTokens', 'onboardWhen', 'saveAt', 'windowRows']
/** Images that are kept between requests: one is read from while another is written. */
const IMAGES = 2

/** Options of a bind that were checked. */
interface CheckedBind {
  readonly target: CheckedTarget
  /** `minGainTokens` is null where it is one block. */
  readonly options: Omit<CacheDefaults, 'minGainTokens'> & { readonly minGainTokens: number | null }
}

function checkBind(options: BindOptions): CheckedBind {
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
  const windowRows = given.windowRows ?? 'last'
  if (windowRows !== 'last' && windowRows !== 'all') invalidValue('windowRows', "'last' or 'all'", windowRows)
  const minGainTokens = given.minGainTokens === undefined ? null : integer('minGainTokens', given.minGainTokens, 1)
  const tenant = (given.tenant ?? 'default') as BlockMeta['tenant']
  // A wrong one is to be told here, whatever secret a manager has.
  saltOf(new Uint8Array(MIN_SECRET_BYTES), tenant)
  return { target, options: { tenant, minGainTokens, saveAt, onboardWhen, windowRows } }
}

/** Throws where the manager was closed. */
function checkManagerOpen(manager: BlockManager): void {
  let isClosed = false
  manager.internals.onClosing(() => {
    isClosed = true
  })()
  if (isClosed) throw new KvError('ERR_KV_CLOSED', 'The block manager was closed; open a new one.')
}

async function bind(
  manager: BlockManager,
  ownsManager: boolean,
  checked: CheckedBind,
  adapters: AdapterWatch,
): Promise<NodeLlamaCppCache> {
  checkManagerOpen(manager)
  const { target, options } = checked
  const { binding, completions } = manager.internals.context
  const images = new StateImages(binding, completions, IMAGES)
  try {
    const { context, reason } = await probe(manager, target, images)
    const window = manager.layout.groups.find(({ kind }) => kind === 'sliding')?.windowTokens
    const ring = options.windowRows === 'all' && window !== undefined ? ringOf(target.context, window) : null
    // Nothing that was found out meanwhile is of use.
    checkManagerOpen(manager)
    return new NodeLlamaCppCache({
      manager,
      ownsManager,
      engine: target.context,
      adapters,
      images,
      context: context === null ? null : { ...context, ring },
      reason,
      options: { ...options, minGainTokens: options.minGainTokens ?? manager.layout.tokensPerBlock },
    })
  } catch (error) {
    await images.close()
    throw error
  }
}

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
 * ERR_KV_INVALID_VALUE naming the option; ERR_KV_CLOSED, also when the manager is closed meanwhile; ERR_KV_UNSUPPORTED for an
 * engine without what this needs
 */
export async function bindNodeLlamaCpp(manager: BlockManager, options: BindOptions): Promise<NodeLlamaCppCache> {
  const checked = checkBind(options)
  const adapters = new AdapterWatch(checked.target.context)
  try {
    return await bind(manager, false, checked, adapters)
  } catch (error) {
    adapters.close()
    throw error
  }
}

/** What {@link openNodeLlamaCpp} takes: what a bind takes, and the tiers of the manager. */
export interface OpenOptions
  extends BindOptions,
    Pick<DescribeOptions, 'tokensPerBlock'>,
    Omit<ManagerOptions, 'layout' | 'model' | 'device'> {}

/**
 * Opens a block manager for a node-llama-cpp context and binds it: `describeNodeLlamaCpp`, `BlockManager.open` and
 * {@link bindNodeLlamaCpp} in one. Closing the cache closes the manager. Where the engine's state cannot be cut into blocks
 * there is no manager, and the cache is off and says why: sequences work as without it.
 *
 * @example
 * ```ts
 * const cache = await openNodeLlamaCpp({
 *   model,
 *   context,
 *   host: { capacityBytes: 2 * GiB },
 *   disk: { directory: './kv-cache', capacityBytes: 20 * GiB },
 * })
 * cache.attach(sequence, { tenant: 'alice' })
 * ```
 * @throws KvError as `describeNodeLlamaCpp`, but for ERR_KV_UNSUPPORTED_MODEL, and as `BlockManager.open`. Nothing stays open
 * when it throws
 */
export async function openNodeLlamaCpp(options: OpenOptions): Promise<NodeLlamaCppCache> {
  const { model, context, modelPath, lora, sequence, tenant, minGainTokens, onboardWhen, saveAt, windowRows, ...rest } =
    options
  const target = withoutUndefined({ model, context, modelPath, lora, sequence })
  const checked = checkBind(
    withoutUndefined({ ...target, tenant, minGainTokens, onboardWhen, saveAt, windowRows }) as BindOptions,
  )
  const { tokensPerBlock, ...tiers } = rest
  // From before the model is told from others on: adapters that are set meanwhile would be others than those.
  const adapters = new AdapterWatch(checked.target.context)
  let manager: BlockManager | null = null
  try {
    const describing = withoutUndefined({ ...target, tokensPerBlock }) as DescribeOptions
    const described = await describeNodeLlamaCpp(describing).catch(whyUnsupported)
    if (typeof described === 'string') return offFrom(checked, adapters, described)
    manager = await BlockManager.open({ ...tiers, ...described })
    return await bind(manager, true, checked, adapters)
  } catch (error) {
    adapters.close()
    await manager?.close()
    throw error
  }
}

/** The reason where this engine's state cannot be cut into blocks; anything else is thrown. */
function whyUnsupported(error: unknown): string {
  if (!isKvError(error, 'ERR_KV_UNSUPPORTED_MODEL')) throw error
  return error.message
}

/** A cache that is off from the start. */
function offFrom({ target, options }: CheckedBind, adapters: AdapterWatch, reason: string): NodeLlamaCppCache {
  return new NodeLlamaCppCache({
    manager: null,
    ownsManager: true,
    engine: target.context,
    adapters,
    images: null,
    context: null,
    reason,
    options: { ...options, minGainTokens: options.minGainTokens ?? 1 },
  })
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T
}
