/**
 * What `inspect` and `verify` share: a report a layer group, also of those whose table cannot be read, and the words for
 * a table that is broken.
 */
import { isKvError, type KvError } from '../errors.js'
import { formatCount, plural, printable } from './format.js'
import type { FoundStore } from './stores.js'

/** A table that could not be read. */
export interface GroupFailure {
  readonly group: number
  readonly error: { readonly code: string; readonly message: string }
}

/** One store, its layer groups in order. */
export interface StoreReport<T> {
  readonly fingerprint: string
  readonly directory: string
  readonly groups: readonly (T | GroupFailure)[]
}

/** What {@link reportStores} found. */
export interface StoreReports<T> {
  readonly stores: readonly StoreReport<T>[]
  /** The groups of all stores that could be read. */
  readonly read: readonly T[]
  /** How many could not. */
  readonly unread: number
}

/**
 * Looks at every table of some stores, the ones after a broken one, too.
 *
 * @throws KvError what the first table failed with when none can be read; what interrupted the verb
 */
export async function reportStores<T extends { readonly group: number }>(
  stores: readonly FoundStore[],
  signal: AbortSignal,
  look: (store: FoundStore, group: number) => Promise<T>,
): Promise<StoreReports<T>> {
  const reports: StoreReport<T>[] = []
  const read: T[] = []
  const failures: KvError[] = []
  for (const store of stores) {
    const groups: (T | GroupFailure)[] = []
    for (const group of store.groups) {
      signal.throwIfAborted()
      try {
        const report = await look(store, group)
        read.push(report)
        groups.push(report)
      } catch (error) {
        if (!isKvError(error) || signal.aborted) throw error
        failures.push(error)
        groups.push({ group, error: { code: error.code, message: error.message } })
      }
    }
    reports.push({ fingerprint: store.fingerprint, directory: store.directory, groups })
  }
  const [failure] = failures
  if (read.length === 0 && failure !== undefined) throw failure
  return { stores: reports, read, unread: failures.length }
}

/** Why a table could not be read, on one line. */
export function failureText({ error }: GroupFailure): string {
  return `${printable(error.message)} (${error.code})`
}

/** What is wrong with a table that is shorter than its superblock says. */
export function cutText(slots: number, slotsMissing: number): string {
  return (
    `the table was cut: it has records for ${formatCount(slots - slotsMissing)} of ${formatCount(slots)} slots; ` +
    'what the others held is lost.'
  )
}

/** What is wrong with a table on a disk that cannot read all of it. */
export function unreadableText(records: number): string {
  return `the disk failed where ${plural(records, 'record')} ${records === 1 ? 'is' : 'are'}; what they say is lost.`
}
