/**
 * `npm run generate`: prints lib/native/generated.ts from the addon's own description of itself, so that the two sides
 * of the seam cannot drift. With --check nothing is written, and a stale file ends with 1.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './run.js'

/**
 * What `describe()` returns as JSON text.
 *
 * @typedef {{
 *   codes: { name: string, meaning: string }[],
 *   transferPaths: string[],
 *   layoutKinds: string[],
 *   storageKinds: string[],
 *   copyStrategies: string[],
 *   limits: Record<string, number>,
 * }} Description
 */

const target = join(root, 'lib', 'native', 'generated.ts')

/** @param {string} text */
function quote(text) {
  return text.includes("'") ? JSON.stringify(text) : `'${text}'`
}

/**
 * @param {string} comment
 * @param {string} name
 * @param {readonly string[]} values
 */
function list(comment, name, values) {
  const line = `export const ${name} = [${values.map(quote).join(', ')}] as const`
  const body =
    line.length <= 120
      ? line
      : [`export const ${name} = [`, ...values.map((v) => `  ${quote(v)},`), '] as const'].join('\n')
  return `/** ${comment} */\n${body}\n`
}

/**
 * @param {Description} description
 * @returns {string} the text of lib/native/generated.ts
 */
export function render(description) {
  const { codes, limits } = description
  const parts = [
    [
      '/**',
      ' * The names that both sides of the seam share. Printed from the addon by `npm run generate`; do not edit: `npm run check`',
      ' * fails when this file is stale.',
      ' */',
      '',
    ].join('\n'),
    list(
      "Every code of the addon; a code's place in this list is its number in the completion words.",
      'ERROR_CODES',
      codes.map(({ name }) => name),
    ),
    [
      '/** The closed list of codes that a `KvError` may have. */',
      "export type ErrorCode = Exclude<(typeof ERROR_CODES)[number], 'OK'>",
      '',
    ].join('\n'),
    [
      "/** Each code's number in the completion words. */",
      'export const CODE = {',
      ...codes.map(({ name }, index) => `  ${name}: ${index},`),
      '} as const',
      '',
    ].join('\n'),
    [
      '/** What each code means to a caller. */',
      'export const ERROR_MEANINGS: Readonly<Record<(typeof ERROR_CODES)[number], string>> = {',
      ...codes.map(({ name, meaning }) => `  ${name}: ${quote(meaning)},`),
      '}',
      '',
    ].join('\n'),
    [
      '/** Limits that the addon checks. */',
      'export const LIMITS = {',
      ...Object.entries(limits).map(([name, value]) => `  ${name}: ${value},`),
      '} as const',
      '',
    ].join('\n'),
    list('The ways in which memory may lie.', 'LAYOUT_KINDS', description.layoutKinds),
    list('The ways in which the bytes of a transfer may go.', 'TRANSFER_PATHS', description.transferPaths),
    list('The kinds of storage.', 'STORAGE_KINDS', description.storageKinds),
    list(
      'The ways to copy between a GPU and host memory, in the order of their numbers.',
      'COPY_STRATEGIES',
      description.copyStrategies,
    ),
  ]
  return parts.join('\n')
}

/** @returns {Description | undefined} undefined when no addon is built */
function describe() {
  const built = [join('Release', 'kvtier.node'), join('testing', 'kvtier_testing.node')]
  const path =
    process.env.KVTIER_ADDON ?? built.map((name) => join(root, 'build', name)).find((file) => existsSync(file))
  if (path === undefined) return undefined
  return JSON.parse(createRequire(import.meta.url)(path).describe())
}

function main() {
  const checking = process.argv.includes('--check')
  const description = describe()
  if (description === undefined) {
    console.error(
      `generated.ts was not ${checking ? 'checked' : 'written'}: no addon is built; run npm run build first.`,
    )
    process.exitCode = checking ? 0 : 1
    return
  }
  const text = render(description)
  const current = existsSync(target) ? readFileSync(target, 'utf8') : ''
  if (!checking) {
    if (text !== current) writeFileSync(target, text)
  } else if (text !== current) {
    const before = current.split('\n')
    const line = text.split('\n').findIndex((expected, index) => expected !== before[index])
    console.error(`lib/native/generated.ts:${line + 1}: stale; run npm run generate and commit the file.`)
    process.exitCode = 1
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
