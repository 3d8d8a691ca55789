/**
 * What a transfer must wait for before it may read or overwrite device memory. Every offload names what produced the
 * bytes and every onboard what last used the destination; there is no default, because forgetting it yields wrong bytes.
 */
import { type ErrorCode, invalidType } from '../errors.js'
import type { TransferControl } from './transfer.js'

/** The memory is quiet: nothing that was started before still reads or writes it. */
export interface QuietFence {
  readonly kind: 'quiet'
}

/** Work of this process that ends when a promise resolves; when it rejects, the transfer's blocks are misses. */
export interface PromiseFence {
  readonly kind: 'promise'
  readonly promise: Promise<unknown>
}

/** What a transfer waits for. */
export type Fence = QuietFence | PromiseFence

/** Makers of fences. */
export const fence: {
  /** The caller's word that nothing still touches the memory. */
  readonly quiet: () => Fence
  /** The transfer starts when `promise` has resolved. */
  readonly promise: (promise: Promise<unknown>) => Fence
} = {
  quiet: () => ({ kind: 'quiet' }),
  promise: (promise) => ({ kind: 'promise', promise }),
}

/** Throws ERR_KV_INVALID_TYPE unless `value` is a fence. */
export function checkFence(name: string, value: unknown): Fence {
  const kind = value !== null && typeof value === 'object' && 'kind' in value ? value.kind : undefined
  if (kind === 'quiet') return value as QuietFence
  if (kind === 'promise' && (value as PromiseFence).promise instanceof Promise) {
    const given = value as PromiseFence
    // A transfer that ended early waits for it no more; its rejection must not be unhandled then.
    given.promise.catch(() => undefined)
    return given
  }
  return invalidType(name, 'a fence (fence.quiet() when nothing still touches the memory)', value)
}

/** Waits for a fence; null when it has passed, else why the transfer cannot begin. */
export async function waitForFence(control: TransferControl, after: Fence): Promise<ErrorCode | null> {
  if (after.kind === 'promise') {
    try {
      if (!(await control.wait(after.promise))) return control.code ?? 'ERR_KV_ABORTED'
    } catch {
      return 'ERR_KV_ABORTED'
    }
  }
  return control.code
}
