/**
 * The only place that finds and loads the native addon: from `build/Release` or `prebuilds` of the package, or the file
 * that the environment variable KVTIER_ADDON names.
 */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { KvError } from '../errors.js'

const require = createRequire(import.meta.url)

/** The package's root: this file is two folders below it, in lib/ and in dist/. */
const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

/** What went wrong most likely, and what to do, by what the loader said. */
const CAUSES: readonly (readonly [RegExp, string])[] = [
  [
    /No native build was found/i,
    'the package has no prebuilt addon for this platform, or npm ran no install scripts. Build one: npm rebuild kvtier ' +
      '--foreground-scripts (in a checkout: npm run build)',
  ],
  [
    /GLIBC(XX)?_|version `[^']*' not found/,
    'the prebuilt addon needs a newer C library than this system has. Build one here: npm rebuild kvtier ' +
      '--build-from-source --foreground-scripts',
  ],
  [
    /invalid ELF header|wrong ELF class|not a mach-o|incompatible architecture|mach-o file, but/i,
    'node_modules was copied from another platform. Install again on this one: npm ci',
  ],
  [
    /cannot open shared object file/,
    'a shared library that the addon needs is missing, or KVTIER_ADDON names no file. Install the library named below, ' +
      'or build the addon here: npm rebuild kvtier --build-from-source --foreground-scripts',
  ],
  [/Cannot find module 'node-gyp-build'/, 'the dependency node-gyp-build is not installed. Install again: npm ci'],
]

function causeOf(messages: readonly string[]): string {
  for (const [pattern, cause] of CAUSES) if (messages.some((message) => pattern.test(message))) return cause
  return (
    'the addon is broken or was built for another Node.js. Build it again: npm rebuild kvtier --build-from-source ' +
    '--foreground-scripts'
  )
}

function prebuiltAddons(): string[] {
  const folder = join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => name.endsWith('.node'))
    .map((name) => join(folder, name))
}

function missing(what: string, errors: readonly unknown[]): KvError {
  const messages = errors.map((error) => (error instanceof Error ? error.message : String(error)))
  const lines = [
    `kvtier's native addon could not be loaded on ${process.platform}-${process.arch}, Node.js ${process.version}.`,
    `Asked for: ${what}.`,
    `Likely cause: ${causeOf(messages)}.`,
    ...messages.map((message) => `- ${message.trim().replaceAll('\n', '\n  ')}`),
  ]
  const cause = errors.length === 1 ? errors[0] : new AggregateError(errors, 'Every place was tried.')
  return new KvError('ERR_KV_ADDON_MISSING', lines.join('\n'), { cause })
}

/**
 * The native addon of this package.
 *
 * @param addonFile - an addon to load instead (default: what KVTIER_ADDON names; empty = the package's own)
 * @throws KvError `ERR_KV_ADDON_MISSING` with the platform, the likely cause and the command that helps
 */
export function loadAddon(addonFile: string = process.env.KVTIER_ADDON ?? ''): unknown {
  if (addonFile !== '') {
    const file = resolve(addonFile)
    try {
      return require(file)
    } catch (error) {
      throw missing(file, [error])
    }
  }
  const errors: unknown[] = []
  let resolved = ''
  try {
    const nodeGypBuild = require('node-gyp-build') as { resolve(directory: string): string }
    resolved = nodeGypBuild.resolve(packageRoot)
    return require(resolved)
  } catch (error) {
    errors.push(error)
  }
  // An addon that was built here comes first. Where that one does not load, a prebuilt one still may.
  for (const file of prebuiltAddons()) {
    if (file === resolved) continue
    try {
      return require(file)
    } catch (error) {
      errors.push(error)
    }
  }
  throw missing(`the addon in ${packageRoot}`, errors)
}
