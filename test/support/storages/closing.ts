/** Closing at the end of a test, whatever the test closed itself. */

import { isKvError } from '../../../lib/errors.ts'
import { binding, type StorageHandle, type StoreHandle } from '../../../lib/native/binding.ts'
import { completions } from '../../../lib/native/completions.ts'

/** Closes a handle; one that is closed stays so. */
export async function closeQuietly(handle: StorageHandle | StoreHandle): Promise<void> {
  try {
    await completions().call((ticket) => binding.startClose(ticket, handle))
  } catch (error) {
    if (!isKvError(error, 'ERR_KV_CLOSED')) throw error
  }
}
