import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CONNECTORS, rangeOf, supports } from '../../lib/connectors/catalog.ts'
import { root } from '../../scripts/run.js'

const folder = join(root, 'lib', 'connectors')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

function foldersIn(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}

/** Names in the table of public names of a connector's README. */
function namesInReadme(name: string): string[] {
  const text = readFileSync(join(folder, name, 'README.md'), 'utf8')
  const table = /\| public name \| what \|\n\|---\|---\|\n((?:\|.*\n)+)/.exec(text)?.[1] ?? ''
  return [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, found]) => found ?? '')
}

describe('the catalog of connectors', () => {
  const names = CONNECTORS.map(({ name }) => name).sort()

  test('has every folder of a connector, and of its tests', () => {
    expect(foldersIn(folder)).toEqual(names)
    expect(foldersIn(join(root, 'test', 'connectors'))).toEqual(names)
  })

  test('has every connector that the package exports, and every optional peer dependency', () => {
    const exported = Object.keys(manifest.exports).filter((path) => path.startsWith('./connectors/'))
    expect(exported.map((path) => path.replace(/^\./, manifest.name)).sort()).toEqual(
      CONNECTORS.map(({ packageExport }) => packageExport).sort(),
    )
    expect(Object.keys(manifest.peerDependencies).sort()).toEqual(
      CONNECTORS.map(({ enginePackage }) => enginePackage).sort(),
    )
  })
})

describe.each(CONNECTORS)('the connector $name', (connector) => {
  const { name, packageExport, enginePackage } = connector

  test('is exported from its folder', () => {
    expect(manifest.exports[packageExport.replace(manifest.name, '.')]).toEqual({
      types: `./dist/connectors/${name}/index.d.ts`,
      default: `./dist/connectors/${name}/index.js`,
    })
    expect(existsSync(join(folder, name, 'index.ts'))).toBe(true)
  })

  test('has its engine as an optional peer dependency of the versions that it supports', () => {
    expect(manifest.peerDependencies[enginePackage]).toBe(rangeOf(connector))
    expect(manifest.peerDependenciesMeta[enginePackage]).toEqual({ optional: true })
    expect(manifest.dependencies).not.toHaveProperty(enginePackage)
  })

  test('exports what its README names, and names what it exports', async () => {
    const named = namesInReadme(name)
    expect(named.length).toBeGreaterThan(0)
    const loaded = Object.keys(await import(`../../lib/connectors/${name}/index.ts`))
    expect(named).toEqual(expect.arrayContaining(loaded))
    // Types are in its text only.
    const text = readFileSync(join(folder, name, 'index.ts'), 'utf8')
    for (const each of named) expect(text).toMatch(new RegExp(`\\b${each}\\b`))
  })

  test('imports nothing of its engine', () => {
    for (const file of readdirSync(join(folder, name)).filter((each) => each.endsWith('.ts'))) {
      const text = readFileSync(join(folder, name, file), 'utf8')
      expect(text, file).not.toMatch(new RegExp(`(?:from|import\\()\\s*['"]${enginePackage}`))
    }
  })
})

test.each([
  ['3.14.0', true],
  ['3.22.1', true],
  ['3.14.0-beta.1', true],
  ['3.13.9', false],
  ['2.99.0', false],
  ['4.0.0', false],
  ['4.0.0-beta.1', false],
  ['31.4', false],
  ['', false],
  ['latest', false],
])('a connector for 3.14 and later, but not 4, supports %j: %s', (version, supported) => {
  const connector = { name: '', packageExport: '', enginePackage: '', engineVersions: { from: '3.14', before: '4' } }
  expect(supports(connector, version)).toBe(supported)
})
