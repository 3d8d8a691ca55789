/**
 * Finds the stores below a directory by the names of their files: `v1/<32 hex digits>/group-<n>.table`.
 */
import { type Dirent, existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'

import { type ErrorCode, KvError } from '../errors.js'
import { printable } from './format.js'

/** One model's store. */
export interface FoundStore {
  /** The first half of the fingerprint in hex, which is the directory's name; the name itself where it is no such number. */
  readonly fingerprint: string
  readonly directory: string
  /** Numbers of the layer groups that have a table, ascending. */
  readonly groups: readonly number[]
}

const VERSION_DIRECTORY = 'v1'
const FINGERPRINT = /^[0-9a-f]{32}$/
const TABLE = /^group-(0|[1-9]\d{0,8})\.table$/

/** The name of a layer group's table in its store's directory. */
export function tableName(group: number): string {
  return `group-${group}.table`
}

function refuse(code: ErrorCode, message: string, cause?: unknown): never {
  throw new KvError(code, message, { cause })
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
}

async function list(directory: string): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true })
  } catch (error) {
    return refuse('ERR_KV_IO', `${printable(directory)} cannot be listed (${codeOf(error)}); run as its owner.`, error)
  }
}

async function checkDirectory(directory: string): Promise<void> {
  const shown = printable(directory)
  const found = await stat(directory).catch((error: unknown) => {
    const code = codeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      return refuse('ERR_KV_NOT_A_DIRECTORY', `${shown} does not exist; name the directory of a disk tier.`, error)
    }
    return refuse('ERR_KV_IO', `${shown} cannot be looked at (${code}); run as its owner.`, error)
  })
  if (!found.isDirectory()) {
    refuse('ERR_KV_NOT_A_DIRECTORY', `${shown} is a file, not a directory; name the directory of a disk tier.`)
  }
}

function groupsIn(entries: readonly Dirent[]): number[] {
  const numbers = entries.flatMap((entry) => {
    const match = entry.isFile() ? TABLE.exec(entry.name) : null
    return match === null ? [] : [Number(match[1])]
  })
  return numbers.sort((a, b) => a - b)
}

/**
 * The stores of a disk tier.
 *
 * @param directory - the tier's directory (the `disk.directory` of a manager), or one store's own
 * @throws KvError ERR_KV_NOT_A_DIRECTORY when it is missing or a file; ERR_KV_NOT_A_STORE when it holds no store; ERR_KV_IO
 * when it cannot be read
 */
export async function findStores(directory: string): Promise<FoundStore[]> {
  await checkDirectory(directory)
  const entries = await list(directory)
  const own = groupsIn(entries)
  if (own.length > 0) return [{ fingerprint: basename(directory), directory, groups: own }]

  const below = join(directory, VERSION_DIRECTORY)
  const parent = existsSync(below) ? below : directory
  const candidates = parent === directory ? entries : await list(parent)
  const stores: FoundStore[] = []
  for (const entry of candidates) {
    if (!entry.isDirectory() || !FINGERPRINT.test(entry.name)) continue
    const path = join(parent, entry.name)
    const groups = groupsIn(await list(path))
    if (groups.length > 0) stores.push({ fingerprint: entry.name, directory: path, groups })
  }
  if (stores.length === 0) {
    refuse(
      'ERR_KV_NOT_A_STORE',
      `${printable(directory)} holds no store: there is no ${VERSION_DIRECTORY}/<fingerprint>/group-<n>.table in it; ` +
        'name the directory that a manager has as disk.directory.',
    )
  }
  return stores.sort((a, b) => (a.fingerprint < b.fingerprint ? -1 : 1))
}

/**
 * The one store whose fingerprint begins with `prefix`.
 *
 * @throws KvError ERR_KV_USAGE when `prefix` is no hex number or fits several; ERR_KV_NOT_A_STORE when it fits none
 */
export function selectStore(stores: readonly FoundStore[], prefix: string): FoundStore {
  if (!/^[0-9a-f]{1,64}$/i.test(prefix)) {
    refuse('ERR_KV_USAGE', `--store must be the first hex digits of a fingerprint, but is ${JSON.stringify(prefix)}.`)
  }
  // Directory names have the first half of a fingerprint; a whole one is as good.
  const wanted = prefix.toLowerCase().slice(0, 32)
  const fitting = stores.filter((store) => store.fingerprint.startsWith(wanted))
  const names = (fitting.length > 0 ? fitting : stores).map((store) => printable(store.fingerprint)).join(', ')
  if (fitting.length > 1) refuse('ERR_KV_USAGE', `--store ${prefix} fits ${fitting.length} stores: ${names}.`)
  return fitting[0] ?? refuse('ERR_KV_NOT_A_STORE', `No store's fingerprint begins with ${prefix}; there is ${names}.`)
}
