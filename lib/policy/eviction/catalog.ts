/** Every eviction policy by name. A new one is a file beside this one and a line in the list. */
import { KvError } from '../../errors.js'
import { makeFifo } from './fifo.js'
import { makeLfu } from './lfu.js'
import { makeLru } from './lru.js'
import type { EvictionPolicy, MakePolicy, PolicyContext } from './types.js'

const policies: ReadonlyMap<string, MakePolicy> = new Map([
  ['lru', makeLru],
  ['lfu', makeLfu],
  ['fifo', makeFifo],
])

/** Names that {@link makePolicy} takes, the default first. */
export const EVICTION_POLICIES: readonly string[] = [...policies.keys()]

/** The policy where none is named. */
export const DEFAULT_EVICTION_POLICY = 'lru'

/**
 * A policy for one tier.
 *
 * @param name - one of {@link EVICTION_POLICIES}
 * @throws KvError `ERR_KV_UNKNOWN_POLICY` for any other name; the message lists the known ones
 */
export function makePolicy(name: string, context: PolicyContext): EvictionPolicy {
  return findMaker(name)(context)
}

/**
 * Refuses a name that is not in the catalog, before anything is allocated for it.
 *
 * @throws KvError `ERR_KV_UNKNOWN_POLICY`
 */
export function checkPolicyName(name: string): void {
  findMaker(name)
}

function findMaker(name: string): MakePolicy {
  const make = policies.get(name)
  if (make !== undefined) return make
  throw new KvError(
    'ERR_KV_UNKNOWN_POLICY',
    `There is no eviction policy ${JSON.stringify(name)}; the catalog has ${EVICTION_POLICIES.join(', ')}.`,
  )
}
