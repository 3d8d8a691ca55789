/** What `kvtier doctor` says about connectors: which there are, and which version of each one's engine a program here has. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { CONNECTORS, type Connector, rangeOf, supports } from '../connectors/catalog.js'
import { renderTable } from './table.js'

/** A connector and its engine. */
export interface FoundConnector {
  readonly name: string
  readonly packageExport: string
  readonly engine: string
  /** The versions that the connector supports. */
  readonly supported: string
  /** The version that is installed; null where none was found. */
  readonly version: string | null
  /** Whether that is a supported one. */
  readonly ok: boolean
}

/** The version of a package that a program in `directory` would load. Nothing of the package is loaded for that. */
async function versionFrom(directory: string, name: string): Promise<string | null> {
  const folders = createRequire(join(directory, 'program.js')).resolve.paths(name) ?? []
  for (const folder of folders) {
    try {
      const text = await readFile(join(folder, name, 'package.json'), 'utf8')
      const { version } = JSON.parse(text) as { readonly version?: unknown }
      return typeof version === 'string' ? version : null
    } catch (error) {
      // Any other is the package that would be loaded, and cannot be.
      if (!isMissing(error)) return null
    }
  }
  return null
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}

/** Every connector, with the engine that a program in `directory` has. Fails never. */
export async function findConnectors(directory: string): Promise<FoundConnector[]> {
  const found = async (connector: Connector): Promise<FoundConnector> => {
    const { name, packageExport, enginePackage: engine } = connector
    const version = await versionFrom(directory, engine).catch(() => null)
    const ok = version !== null && supports(connector, version)
    return { name, packageExport, engine, supported: rangeOf(connector), version, ok }
  }
  return await Promise.all(CONNECTORS.map(found))
}

function stateOf({ version, ok }: FoundConnector): string {
  if (version === null) return 'not installed'
  return ok ? version : `${version}, not supported`
}

/** A table of them. */
export function connectorsText(connectors: readonly FoundConnector[]): string {
  const rows = connectors.map((each) => [each.packageExport, `${each.engine} ${each.supported}`, stateOf(each)])
  return `\n${renderTable([{ title: 'CONNECTOR' }, { title: 'ENGINE' }, { title: 'FOUND' }], rows)}`
}
