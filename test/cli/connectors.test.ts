import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connectorsText, findConnectors } from '../../lib/cli/connectors.ts'
import { CONNECTORS } from '../../lib/connectors/catalog.ts'
import { withDirectory } from '../support/manager.ts'

const [first] = CONNECTORS
const engine = first?.enginePackage ?? ''

/** A package of the engine's name, as far as it is looked at. */
function install(directory: string, manifest: string): void {
  const folder = join(directory, 'node_modules', engine)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), manifest)
}

/** What is found for the first connector, and the last word on it in the table. */
async function found(directory: string): Promise<readonly [string | null, boolean, string]> {
  const connectors = await findConnectors(directory)
  const line = connectorsText(connectors.slice(0, 1)).trimEnd().split('\n').at(-1) ?? ''
  return [connectors[0]?.version ?? null, connectors[0]?.ok ?? false, line.split(/ {2,}/).at(-1) ?? '']
}

test('an engine is found in the folder itself and above it, the nearest first', async () => {
  await withDirectory(async (directory) => {
    const below = join(directory, 'some', 'where')
    mkdirSync(below, { recursive: true })
    expect(await found(below)).toEqual([null, false, 'not installed'])
    install(directory, '{ "version": "3.22.1" }')
    expect(await found(below)).toEqual(['3.22.1', true, '3.22.1'])
    install(below, '{ "version": "2.8.0" }')
    expect(await found(below)).toEqual(['2.8.0', false, '2.8.0, not supported'])
    expect(await found(directory)).toEqual(['3.22.1', true, '3.22.1'])
  })
})

test.each([
  ['', 'not installed'],
  ['{', 'not installed'],
  ['null', 'not installed'],
  ['{ "version": 3 }', 'not installed'],
  ['{ "version": "\\u001b[2J" }', '?[2J, not supported'],
])('an engine whose package.json is %j is said to be: %s', async (manifest, state) => {
  await withDirectory(async (directory) => {
    install(directory, manifest)
    expect((await found(directory)).at(-1)).toBe(state)
  })
})

test('nothing is found from a folder that is not there', async () => {
  expect(await found('/no/such/folder')).toEqual([null, false, 'not installed'])
})
