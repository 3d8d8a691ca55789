/**
 * Holds every include of the native half to the layer table in native/CMakeLists.txt, and every import of lib/ to the
 * table below. Prints file and line of each fault and ends with 1 where there is one.
 */
import { readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { pathToFileURL } from 'node:url'
import { filesBelow, root } from './run.js'

/** @typedef {{ file: string, line: number, message: string }} Fault */

/**
 * lib's arrows, one line a layer with what it may use. A layer also sees what those see; `leaves` are seen by all.
 * Leaf modules may name any layer's types: `import type` leaves nothing to load.
 *
 * @type {Readonly<Record<string, readonly string[]>>}
 */
const libLayers = {
  leaves: [],
  native: ['leaves'],
  policy: ['native'],
  identity: ['native'],
  blocks: ['policy'],
  tiers: ['identity'],
  movement: ['blocks', 'policy', 'identity', 'tiers'],
  observe: ['blocks', 'policy', 'identity', 'tiers'],
  'block-manager': ['movement', 'observe'],
  index: ['block-manager'],
  cli: ['block-manager'],
  connectors: ['block-manager'],
}

const leafModules = ['connectors/catalog.ts', 'device-options.ts', 'errors.ts', 'events.ts', 'options.ts', 'stats.ts']
const nodeApiHeader = /^(napi|node_api|js_native_api|node|uv|v8)(-.*|_types)?\.h$/
const vendorHeader =
  /^(cuda|cufile|nvml|nvrtc|driver_types|vector_types|hip\/|liburing|linux\/io_uring|numa|infiniband\/|rdma\/)/

/**
 * Everything that each layer may use: its own line, and theirs.
 *
 * @param {Readonly<Record<string, readonly string[]>>} table
 * @returns {Map<string, Set<string>>}
 */
function closure(table) {
  const all = new Map()
  /** @param {string} name @returns {Set<string>} */
  const usedBy = (name) => {
    const known = all.get(name)
    if (known) return known
    const used = new Set()
    all.set(name, used)
    for (const direct of table[name] ?? []) {
      used.add(direct)
      for (const deeper of usedBy(direct)) used.add(deeper)
    }
    return used
  }
  for (const name of Object.keys(table)) usedBy(name)
  return all
}

/**
 * Reads the lines `kvtier_layer(name [SMALL] [USES other ...])`.
 *
 * @param {string} text - native/CMakeLists.txt
 * @returns {Record<string, string[]>}
 */
export function parseLayerTable(text) {
  /** @type {Record<string, string[]>} */
  const table = {}
  for (const [, name, uses] of text.matchAll(/^kvtier_layer\((\w+)(?:\s+SMALL)?(?:\s+USES\s+([\w\s]+))?\)/gm)) {
    if (name) table[name] = uses?.trim().split(/\s+/) ?? []
  }
  return table
}

/**
 * Every match of a pattern with the number of its line.
 *
 * @param {string} text
 * @param {RegExp} pattern
 */
function* matchesByLine(text, pattern) {
  for (const match of text.matchAll(pattern)) {
    yield { line: text.slice(0, match.index).split('\n').length, match }
  }
}

/**
 * @param {string} base - the folder that holds native/
 * @returns {Fault[]}
 */
export function checkNative(base) {
  const table = parseLayerTable(readFileSync(join(base, 'native', 'CMakeLists.txt'), 'utf8'))
  const uses = closure(table)
  /** @type {Fault[]} */
  const faults = []
  for (const file of filesBelow(base, ['native'], ['.h', '.cc', '.cu', '.cuh'])) {
    const layer = file.split('/')[1] ?? ''
    const may = uses.get(layer)
    const text = readFileSync(join(base, file), 'utf8')
    if (!may && layer !== 'include') {
      faults.push({ file, line: 1, message: `${layer} is no layer of native/CMakeLists.txt` })
      continue
    }
    for (const { line, match } of matchesByLine(text, /^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]/gm)) {
      const message = nativeFault(layer, may ?? new Set(), table, match[1] === '"', match[2] ?? '')
      if (message) faults.push({ file, line, message })
    }
  }
  return faults
}

/**
 * @param {string} layer
 * @param {Set<string>} may
 * @param {Record<string, string[]>} table
 * @param {boolean} quoted
 * @param {string} header
 * @returns {string | undefined} what is wrong with this include
 */
function nativeFault(layer, may, table, quoted, header) {
  if (nodeApiHeader.test(header)) {
    // What other addons include is Node-API, too.
    const allowed = layer === 'binding' || layer === 'include'
    return allowed ? undefined : `${header} may be included by binding only, not by ${layer}`
  }
  if (vendorHeader.test(header)) {
    return layer === 'platform' ? undefined : `${header} may be included by platform only, not by ${layer}`
  }
  if (!quoted) return undefined
  const target = header.split('/')[0] ?? ''
  if (target === layer || may.has(target)) return undefined
  if (target === 'include') return layer === 'binding' ? undefined : `${layer} may not use ${header}`
  if (target === 'support') return layer === 'binding' ? undefined : `only binding's test build may use ${header}`
  if (target in table)
    return `${layer} may not use ${target} (${header}); it may use ${[...may].join(', ') || 'nothing'}`
  return `"${header}" is not a path from native/; includes name the layer first`
}

/**
 * The layer of a file below lib/.
 *
 * @param {string} path - relative to lib/
 */
function libLayerOf(path) {
  if (leafModules.includes(path) || path === 'native/generated.ts') return 'leaves'
  return path.includes('/') ? (path.split('/')[0] ?? '') : path.replace(/\.ts$/, '')
}

/** `import`/`export ... from`, with `type` as the first group; `import(...)`; `import '...'`. */
const importPattern =
  /^[ \t]*(?:import|export)\s+(type\s+)?[\w*{}\s,$]+?\s+from\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]\s*\)|^[ \t]*import\s*['"](\.[^'"]+)['"]/gm

/**
 * @param {string} path - of the importing file, relative to lib/
 * @param {string} layer
 * @param {Set<string>} may
 * @param {string} specifier
 * @param {boolean} typeOnly
 * @returns {string | undefined} what is wrong with this import
 */
function libFault(path, layer, may, specifier, typeOnly) {
  const target = posix.normalize(posix.join(dirname(path), specifier)).replace(/\.js$/, '.ts')
  if (target.startsWith('..')) return `${specifier} leaves lib/`
  const targetLayer = libLayerOf(target)
  if (targetLayer === layer || may.has(targetLayer)) return undefined
  if (typeOnly && layer === 'leaves') return undefined
  return `${layer} may not use ${targetLayer} (${specifier}); it may use ${[...may].join(', ') || 'nothing'}`
}

/**
 * @param {string} base - the folder that holds lib/
 * @returns {Fault[]}
 */
export function checkLib(base) {
  const uses = closure(libLayers)
  /** @type {Fault[]} */
  const faults = []
  for (const file of filesBelow(base, ['lib'], ['.ts'])) {
    const path = file.slice('lib/'.length)
    const layer = libLayerOf(path)
    const may = uses.get(layer)
    if (!may) {
      faults.push({ file, line: 1, message: `${layer} is no layer of lib; the table is in scripts/check-layers.js` })
      continue
    }
    const text = readFileSync(join(base, file), 'utf8')
    for (const { line, match } of matchesByLine(text, importPattern)) {
      const specifier = match[2] ?? match[3] ?? match[4] ?? ''
      const message = libFault(path, layer, may, specifier, match[1] !== undefined)
      if (message) faults.push({ file, line, message })
    }
  }
  return faults
}

function main() {
  const faults = [...checkNative(root), ...checkLib(root)]
  for (const { file, line, message } of faults) console.error(`${file}:${line}: ${message}`)
  if (faults.length > 0) process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
