/**
 * Tenant salts: what keeps one tenant's blocks unreadable, and unnoticeable, to every other in every tier. A salt is part
 * of a sequence's root, so the tenant's name itself never reaches a tier.
 */

import { createHmac } from 'node:crypto'
import { invalidType, invalidValue } from '../errors.js'

/**
 * The tenant of blocks that everybody may hit, public system prompts for example. It must be spelled out: whoever can
 * time a request can tell whether a shared prefix is held.
 */
export const SHARED: unique symbol = Symbol.for('kvtier.shared')

/** Whose blocks they are: a name of the caller's choice, or {@link SHARED}. */
export type Tenant = string | typeof SHARED

/** A tenant's name may take this many bytes of UTF-8. */
export const MAX_TENANT_BYTES = 1024

/** A secret must have at least this many bytes. */
export const MIN_SECRET_BYTES = 16

const NAMED = 'kvtier tenant salt 1: named\0'
const EVERYBODY = 'kvtier tenant salt 1: shared\0'

/**
 * The tenant's salt: HMAC-SHA256 under the secret, so that it cannot be guessed from a name. A name is any string of 1 byte
 * to 1 KiB; it is hashed as it is, never parsed, trimmed or normalised.
 *
 * @param secret - at least 16 bytes, the same for everybody who shares a store
 * @returns 32 bytes
 * @throws KvError ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE
 */
export function saltOf(secret: Uint8Array, tenant: Tenant): Uint8Array {
  if (!(secret instanceof Uint8Array)) invalidType('secret', 'a Uint8Array', typeof secret)
  if (secret.length < MIN_SECRET_BYTES) {
    invalidValue('secret', `at least ${MIN_SECRET_BYTES} bytes`, `${secret.length} bytes`)
  }
  const hmac = createHmac('sha256', secret)
  if (tenant === SHARED) return new Uint8Array(hmac.update(EVERYBODY).digest())
  if (typeof tenant !== 'string') invalidType('tenant', 'a string or SHARED', tenant)
  const bytes = Buffer.byteLength(tenant, 'utf8')
  if (bytes < 1 || bytes > MAX_TENANT_BYTES) {
    invalidValue('tenant', `a name of 1 to ${MAX_TENANT_BYTES} bytes`, `${bytes} bytes long`)
  }
  // UTF-16, because UTF-8 would make all lone surrogates the same character, and so two tenants one.
  return new Uint8Array(hmac.update(NAMED).update(tenant, 'utf16le').digest())
}

/** A number that tells tenants apart in tables and statistics; not an identity, for two may share one. */
export function tenantTag(salt: Uint8Array): number {
  return new DataView(salt.buffer, salt.byteOffset, 4).getUint32(0, true)
}
