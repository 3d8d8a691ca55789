/** Environments that end while a disk does not answer: they do not wait for it where nothing of theirs is at stake. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type ChildEnd, CLEAN_END, runScript } from '../support/child.ts'
import { temporaryFolder } from '../support/folder.ts'

const script = fileURLToPath(new URL('./teardown/hung-child.js', import.meta.url))
const PARENTS = [
  ['uses the engine too', 'shared'],
  ['does not', 'alone'],
] as const

async function run(way: string, engine: string): Promise<ChildEnd> {
  const folder = temporaryFolder()
  mkdirSync(join(folder, 'next'), { mode: 0o700 })
  return await runScript(script, [folder, way, engine])
}

test.each(PARENTS)('a worker thread can be terminated while its load hangs; its parent %s', async (_, engine) => {
  expect(await run('terminate', engine)).toEqual({ ...CLEAN_END, stdout: 'ended with 1 call held\nnext ended\n' })
})

test.each(PARENTS)('a process can exit while a load of a worker thread hangs; its parent %s', async (_, engine) => {
  expect(await run('exit', engine)).toEqual({ ...CLEAN_END, stdout: '' })
})
