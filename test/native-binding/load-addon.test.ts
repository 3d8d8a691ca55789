/** What somebody sees whose addon does not load. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

import type { Binding } from '../../lib/native/binding.js'
import { loadAddon } from '../../lib/native/load-addon.js'
import { errorOf } from '../support/expect-code.js'

const folder = mkdtempSync(join(tmpdir(), 'kvtier-load-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('KVTIER_ADDON names the addon that is loaded', () => {
  const file = process.env.KVTIER_ADDON ?? ''
  expect(file).not.toBe('')
  const describe = (addon: unknown): string => (addon as Binding).describe()
  expect(describe(loadAddon())).toBe(describe(loadAddon(file)))
})

test('a file that is missing is named, with the platform', () => {
  const file = join(folder, 'nowhere.node')
  const error = errorOf('ERR_KV_ADDON_MISSING', () => loadAddon(file))
  expect(error.message).toContain(file)
  expect(error.message).toContain(`${process.platform}-${process.arch}`)
  expect(error.cause).toBeInstanceOf(Error)
})

test('an addon of another platform says so, and what to do', () => {
  const file = join(folder, 'foreign.node')
  writeFileSync(file, 'this is no shared object, but it is long enough to be looked at by the loader')
  const error = errorOf('ERR_KV_ADDON_MISSING', () => loadAddon(file))
  expect(error.message).toMatch(/Likely cause: node_modules was copied from another platform\. .*npm ci/)
})
