import { expect, it } from 'vitest'

import {
  checkPolicyName,
  DEFAULT_EVICTION_POLICY,
  EVICTION_POLICIES,
  makePolicy,
} from '../../../lib/policy/eviction/catalog.js'
import { errorOf } from '../../support/expect-code.js'

it('makes every policy that it names, the default among them', () => {
  expect(EVICTION_POLICIES).toContain(DEFAULT_EVICTION_POLICY)
  for (const name of EVICTION_POLICIES) {
    checkPolicyName(name)
    const policy = makePolicy(name, { slotCount: 2, lastUse: new Float64Array(2) })
    policy.insert(1, 3)
    expect(policy.rank(1)).not.toBeNaN()
  }
})

it('refuses any other name and lists the known ones', () => {
  for (const name of ['LRU', '', 'constructor', 'toString', '__proto__']) {
    const { message } = errorOf('ERR_KV_UNKNOWN_POLICY', () => checkPolicyName(name))
    expect(message).toContain(JSON.stringify(name))
    for (const known of EVICTION_POLICIES) expect(message).toContain(known)
  }
})
