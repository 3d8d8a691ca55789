/**
 * What the other scripts share: the root folder, and running programs of this checkout.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the checkout, without a slash at the end. */
export const root = resolve(fileURLToPath(new URL('..', import.meta.url)))

/** How many compilers to run at once. */
export const parallel = process.env.KVTIER_JOBS ?? String(availableParallelism())

/**
 * Runs a program in the root folder with our output.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {Record<string, string>} [environment] - added to this process's own
 * @returns {boolean} whether it ended with 0
 */
export function run(program, args, environment = {}) {
  const result = spawnSync(program, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  })
  if (result.error) console.error(`${program}: ${result.error.message}`)
  if (result.signal) console.error(`${program} ended by ${result.signal}`)
  return result.status === 0
}

/**
 * Runs a program and keeps what it prints.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {Record<string, string>} [environment]
 * @returns {{ ok: boolean, output: string, ended: string }} `ended` says how: an exit code or a signal
 */
export function capture(program, args, environment = {}) {
  const result = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    env: { ...process.env, ...environment },
  })
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? `${result.error.message}\n` : ''}`
  return { ok: result.status === 0, output, ended: result.signal ?? `exit code ${result.status}` }
}

/**
 * The command line of a program that a package of node_modules brings.
 *
 * @param {string} name
 */
export function tool(name) {
  return join(root, 'node_modules', '.bin', name)
}

/**
 * Every file below some folders whose name ends in one of the endings, sorted, relative to `base`.
 *
 * @param {string} base
 * @param {readonly string[]} folders
 * @param {readonly string[]} endings
 * @returns {string[]}
 */
export function filesBelow(base, folders, endings) {
  /** @type {string[]} */
  const found = []
  for (const folder of folders) {
    const path = join(base, folder)
    if (!existsSync(path)) continue
    for (const entry of readdirSync(path, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile() || !endings.some((ending) => entry.name.endsWith(ending))) continue
      found.push(relative(base, join(entry.parentPath, entry.name)).split(sep).join('/'))
    }
  }
  return found.sort()
}
