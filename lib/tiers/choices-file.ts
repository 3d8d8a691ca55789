/**
 * What was measured about a GPU's copies, in a file of the user's cache folder. The file is a help and no truth: one that
 * cannot be read, is somebody else's, or is not what it should be counts as missing, and one that cannot be written is left
 * out.
 */
import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { COPY_STRATEGIES } from '../native/generated.js'

/** Of what the choices were measured. */
export interface ChoicesKey {
  /** The GPU's UUID; its name where the driver does not say. */
  readonly gpu: string
  readonly driver: string
}

/** Changes when the table's size or meaning does. */
const FORMAT = 1
const LONGEST_FILE = 64 * 1024

/** kvtier's folder for what can be made again; null where the user has none. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | null {
  const named = env.XDG_CACHE_HOME ?? ''
  // A relative path is to be ignored, says the specification of that variable.
  if (isAbsolute(named)) return join(named, 'kvtier')
  try {
    const home = homedir()
    return isAbsolute(home) ? join(home, '.cache', 'kvtier') : null
  } catch {
    return null
  }
}

/** The file of a GPU and driver in a folder. */
export function choicesPath(folder: string, key: ChoicesKey): string {
  const name = createHash('sha256')
    .update(JSON.stringify([FORMAT, key.gpu, key.driver]))
    .digest('hex')
    .slice(0, 16)
  return join(folder, `copies-${name}.json`)
}

/** The stored choices, one byte each; null where there are none. */
export async function readChoices(folder: string | null, key: ChoicesKey): Promise<Uint8Array | null> {
  if (folder === null) return null
  try {
    const text = await readOwnFile(choicesPath(folder, key))
    return text === null ? null : parse(text, key)
  } catch {
    return null
  }
}

/** The text of a file that is the user's own, no link, and no longer than it can be. */
async function readOwnFile(path: string): Promise<string | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const facts = await file.stat()
    const isOwn = process.getuid === undefined || facts.uid === process.getuid()
    return isOwn && facts.isFile() && facts.size <= LONGEST_FILE ? await file.readFile('utf8') : null
  } finally {
    await file.close()
  }
}

function parse(text: string, key: ChoicesKey): Uint8Array | null {
  const value = JSON.parse(text) as Record<string, unknown> | null
  if (value?.format !== FORMAT || value.gpu !== key.gpu || value.driver !== key.driver) return null
  if (typeof value.choices !== 'string') return null
  const choices = Uint8Array.from(Buffer.from(value.choices, 'base64'))
  const known = choices.every((choice) => choice < COPY_STRATEGIES.length)
  return choices.length > 0 && known ? choices : null
}

/** Stores choices, whole or not at all; whether it did. */
export async function writeChoices(folder: string | null, key: ChoicesKey, choices: Uint8Array): Promise<boolean> {
  if (folder === null) return false
  const path = choicesPath(folder, key)
  const draft = `${path}.${randomUUID()}`
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const text = JSON.stringify({ format: FORMAT, ...key, choices: Buffer.from(choices).toString('base64') })
    await writeFile(draft, `${text}\n`, { flag: 'wx', mode: 0o600 })
    await rename(draft, path)
    return true
  } catch {
    await rm(draft, { force: true }).catch(() => undefined)
    return false
  }
}
