/** The error for our own mistakes: a caller inside kvtier broke a rule of this folder. */
import { KvError } from '../errors.js'

/**
 * Throws.
 *
 * @param message - what was asked and what there was
 * @throws KvError `ERR_KV_INTERNAL`
 */
export function misuse(message: string): never {
  throw new KvError('ERR_KV_INTERNAL', message)
}
