import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkLib, checkNative, parseLayerTable } from '../../scripts/check-layers.js'
import { root } from '../../scripts/run.js'

let base = ''

function write(file: string, ...lines: string[]): void {
  mkdirSync(dirname(join(base, file)), { recursive: true })
  writeFileSync(join(base, file), `${lines.join('\n')}\n`)
}

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'kvtier-layers-'))
  write(
    'native/CMakeLists.txt',
    'kvtier_layer(core)',
    'kvtier_layer(platform USES core)',
    'kvtier_layer(storage USES platform)',
    'kvtier_layer(binding USES storage)',
  )
})

afterEach(() => rmSync(base, { recursive: true, force: true }))

describe('the native half', () => {
  test('the table is read from the lines of native/CMakeLists.txt', () => {
    const table = parseLayerTable(
      'kvtier_layer(core)\n# kvtier_layer(no)\nkvtier_layer(storage SMALL USES digest  core)\n',
    )
    expect(table).toEqual({ core: [], storage: ['digest', 'core'] })
  })

  test('a layer may use itself and everything below it', () => {
    write('native/storage/slab.cc', '#include "storage/slab.h"', '#include "core/status.h"', '#include <vector>')
    expect(checkNative(base)).toEqual([])
  })

  test('an include that points up is reported with its file and line', () => {
    write('native/core/status.cc', '// Status.', '#include "core/status.h"', '', '  # include "storage/slab.h"')
    expect(checkNative(base)).toEqual([
      { file: 'native/core/status.cc', line: 4, message: expect.stringContaining('core may not use storage') },
    ])
  })

  test('only the binding, and the header for other addons, includes Node-API', () => {
    write('native/binding/addon.cc', '#include <napi.h>', '#include <node_api.h>')
    write('native/include/kvtier.h', '#include <node_api.h>')
    write('native/storage/slab.cc', '#include <napi.h>')
    expect(checkNative(base)).toEqual([
      { file: 'native/storage/slab.cc', line: 1, message: expect.stringContaining('binding only') },
    ])
  })

  test('only the platform layer includes the headers of vendors', () => {
    write('native/platform/cuda.cc', '#include <cuda.h>', '#include <linux/io_uring.h>', '#include <cufile.h>')
    write('native/storage/gds.cc', '#include <cufile.h>', '#include "cuda_runtime.h"')
    expect(checkNative(base).map(({ file, line }) => `${file}:${line}`)).toEqual([
      'native/storage/gds.cc:1',
      'native/storage/gds.cc:2',
    ])
  })

  test('a quoted include that does not start with a layer is a fault', () => {
    write('native/storage/slab.cc', '#include "slab.h"', '#include "../core/status.h"')
    expect(checkNative(base)).toHaveLength(2)
  })

  test('a folder that is no layer is a fault', () => {
    write('native/helpers/strings.h', '#pragma once')
    expect(checkNative(base)).toEqual([
      { file: 'native/helpers/strings.h', line: 1, message: expect.stringContaining('helpers is no layer') },
    ])
  })
})

describe('lib', () => {
  test('arrows that point down are fine, whatever form the import has', () => {
    write('lib/index.ts', "export { BlockManager } from './block-manager.js'", "export type { A } from './errors.js'")
    write(
      'lib/block-manager.ts',
      "import {\n  move,\n} from './movement/move.js'",
      "const a = await import('./blocks/a.js')",
    )
    write('lib/blocks/a.ts', "import { binding } from '../native/binding.js'", "import { b } from './b.js'")
    write('lib/errors.ts', "import type { ErrorCode } from './native/generated.js'")
    expect(checkLib(base)).toEqual([])
  })

  test('an import that points up or sideways is reported with its file and line', () => {
    write('lib/blocks/a.ts', "import { x } from 'node:fs'", "import {\n  move,\n} from '../movement/move.js'")
    write('lib/tiers/disk.ts', '', '', "import { B } from '../blocks/a.js'")
    write('lib/native/binding.ts', "export type * from '../tiers/disk.js'")
    expect(checkLib(base).map(({ file, line }) => `${file}:${line}`)).toEqual([
      'lib/blocks/a.ts:2',
      'lib/native/binding.ts:1',
      'lib/tiers/disk.ts:3',
    ])
  })

  test('a leaf module loads nothing but leaf modules, and may name types', () => {
    write(
      'lib/stats.ts',
      "import { KvError } from './errors.js'",
      "import type { T } from './tiers/types.js'",
      "import { a } from './blocks/a.js'",
    )
    expect(checkLib(base)).toEqual([
      { file: 'lib/stats.ts', line: 3, message: expect.stringContaining('leaves may not use blocks') },
    ])
  })

  test('an import that leaves lib is a fault', () => {
    write('lib/blocks/a.ts', "import { run } from '../../scripts/run.js'")
    expect(checkLib(base)).toEqual([{ file: 'lib/blocks/a.ts', line: 1, message: '../../scripts/run.js leaves lib/' }])
  })
})

test('this checkout has no faults', () => {
  expect([...checkNative(root), ...checkLib(root)]).toEqual([])
})
