/**
 * The connectors: one folder beside this file and one line here each. Facts and nothing else, so that who only asks which
 * there are loads neither a connector nor its engine.
 */

/** One connector. */
export interface Connector {
  /** Its folder here, and its tests' folder. */
  readonly name: string
  /** What a program imports. */
  readonly packageExport: string
  /** The engine's package, an optional peer dependency. */
  readonly enginePackage: string
  /** The engine's versions that it supports: from the first on, and before the second. */
  readonly engineVersions: { readonly from: string; readonly before: string }
}

/** Every connector. The test over this list says what else a new one needs. */
export const CONNECTORS: readonly Connector[] = [
  {
    name: 'node-llama-cpp',
    packageExport: 'kvtier/connectors/node-llama-cpp',
    enginePackage: 'node-llama-cpp',
    engineVersions: { from: '3.14', before: '4' },
  },
]

/** The supported versions as package.json has them. */
export function rangeOf({ engineVersions: { from, before } }: Connector): string {
  return `>=${from} <${before}`
}

/** Whether a version of the engine is one of those. One that comes before a release counts as that release. */
export function supports({ engineVersions: { from, before } }: Connector, version: string): boolean {
  return !isBefore(version, from) && isBefore(version, before)
}

function isBefore(version: string, other: string): boolean {
  const [a, b] = [numbersOf(version), numbersOf(other)]
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/** `3.14.0-beta.2` → 3, 14, 0. What is no number makes a version that is supported by nobody. */
function numbersOf(version: string): number[] {
  return (version.split(/[-+]/)[0] ?? '').split('.').map(Number)
}
