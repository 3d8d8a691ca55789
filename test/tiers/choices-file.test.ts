import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { cacheFolder, choicesPath, readChoices, writeChoices } from '../../lib/tiers/choices-file.ts'
import { temporaryFolder } from '../support/folder.ts'

const KEY = { gpu: 'GPU-1', driver: '13.0' }
const CHOICES = Uint8Array.of(0, 1, 2, 3, 4, 0)
const isRoot = process.getuid?.() === 0

/** A folder that has the file of KEY, changed. */
async function folderWith(change: (stored: Record<string, unknown>) => unknown): Promise<string> {
  const folder = temporaryFolder()
  await writeChoices(folder, KEY, CHOICES)
  const path = choicesPath(folder, KEY)
  const changed = change(JSON.parse(readFileSync(path, 'utf8')))
  writeFileSync(path, typeof changed === 'string' ? changed : JSON.stringify(changed))
  return folder
}

describe('the cache folder', () => {
  test('is where the user says, or below the home directory', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/a/b' })).toBe('/a/b/kvtier')
    const byDefault = cacheFolder({})
    expect(byDefault).toMatch(/\/\.cache\/kvtier$/)
    expect(cacheFolder({ XDG_CACHE_HOME: '' })).toBe(byDefault)
    expect(cacheFolder({ XDG_CACHE_HOME: 'relative' })).toBe(byDefault)
  })
})

describe('stored choices', () => {
  test('are read as they were written, from a folder that was made for them', async () => {
    const folder = join(temporaryFolder(), 'not', 'there')
    expect(await writeChoices(folder, KEY, CHOICES)).toBe(true)
    expect(await readChoices(folder, KEY)).toEqual(CHOICES)
    expect(readdirSync(folder)).toEqual([choicesPath('', KEY).replace(/^\//, '')])
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(statSync(choicesPath(folder, KEY)).mode & 0o777).toBe(0o600)
  })

  test('are replaced by later ones', async () => {
    const folder = temporaryFolder()
    await writeChoices(folder, KEY, CHOICES)
    await writeChoices(folder, KEY, Uint8Array.of(4))
    expect(await readChoices(folder, KEY)).toEqual(Uint8Array.of(4))
    expect(readdirSync(folder).length).toBe(1)
  })

  test('are those of one GPU and driver', async () => {
    const folder = temporaryFolder()
    await writeChoices(folder, KEY, CHOICES)
    expect(await readChoices(folder, { ...KEY, gpu: 'GPU-2' })).toBeNull()
    expect(await readChoices(folder, { ...KEY, driver: '13.1' })).toBeNull()
    expect(await readChoices(temporaryFolder(), KEY)).toBeNull()
  })

  test.each([
    ['is cut', (stored: object) => JSON.stringify(stored).slice(0, -2)],
    ['is empty', () => ''],
    ['is no object', () => null],
    ['is an array', () => []],
    ["is another GPU's", (stored: object) => ({ ...stored, gpu: 'GPU-2' })],
    ["is another driver's", (stored: object) => ({ ...stored, driver: '' })],
    ['has another format', (stored: object) => ({ ...stored, format: 2 })],
    ['has no choices', (stored: object) => ({ ...stored, choices: undefined })],
    ['has empty choices', (stored: object) => ({ ...stored, choices: '' })],
    ['has choices that are no text', (stored: object) => ({ ...stored, choices: [1, 2] })],
    [
      'names a strategy that there is not',
      (stored: object) => ({ ...stored, choices: Buffer.of(5).toString('base64') }),
    ],
    ['is longer than it can be', (stored: object) => `${' '.repeat(70_000)}${JSON.stringify(stored)}`],
  ])('are not there when the file %s', async (_, change) => {
    expect(await readChoices(await folderWith((stored) => stored), KEY)).toEqual(CHOICES)
    expect(await readChoices(await folderWith(change), KEY)).toBeNull()
  })

  test('are not read through a link, or from a folder of that name', async () => {
    const folder = await folderWith((stored) => stored)
    const other = temporaryFolder()
    symlinkSync(choicesPath(folder, KEY), choicesPath(other, KEY))
    expect(await readChoices(other, KEY)).toBeNull()
    const third = temporaryFolder()
    mkdirSync(choicesPath(third, KEY))
    expect(await readChoices(third, KEY)).toBeNull()
  })

  test('are left out where the folder cannot be written, or the file not be read', async (context) => {
    if (isRoot) context.skip('the superuser may read and write everything')
    const folder = temporaryFolder()
    chmodSync(folder, 0o500)
    expect(await writeChoices(folder, KEY, CHOICES)).toBe(false)
    chmodSync(folder, 0o700)
    await writeChoices(folder, KEY, CHOICES)
    chmodSync(choicesPath(folder, KEY), 0)
    expect(await readChoices(folder, KEY)).toBeNull()
  })

  test('are left out, and nothing stays, where their place is taken or is none', async () => {
    const file = join(temporaryFolder(), 'file')
    writeFileSync(file, '')
    expect(await writeChoices(join(file, 'below'), KEY, CHOICES)).toBe(false)
    const folder = temporaryFolder()
    mkdirSync(join(choicesPath(folder, KEY), 'full'), { recursive: true })
    expect(await writeChoices(folder, KEY, CHOICES)).toBe(false)
    expect(readdirSync(folder).length).toBe(1)
    expect(await writeChoices(null, KEY, CHOICES)).toBe(false)
    expect(await readChoices(null, KEY)).toBeNull()
  })
})
