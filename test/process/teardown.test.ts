/**
 * Environments that end, well or badly, with calls in flight: worker threads that are terminated, processes that exit.
 * Borrowed memory goes with its environment, and engine threads must have let go of it by then. Such crashes show in a few
 * of a hundred ends, so each way is looped; a child that ends by a signal, or says anything on stderr, fails.
 */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type ChildEnd, CLEAN_END, runScript } from '../support/child.ts'
import { temporaryFolder } from '../support/folder.ts'
import { CANNOT_TAKE } from '../support/garbage.ts'

function run(file: string, ...args: string[]): Promise<ChildEnd> {
  return runScript(fileURLToPath(new URL(`./teardown/${file}`, import.meta.url)), [temporaryFolder(), ...args])
}

test('worker threads can be terminated with transfers in flight', { timeout: 120_000 }, async () => {
  expect(await run('workers-child.js', '20')).toEqual({ ...CLEAN_END, stdout: 'rounds done\n' })
})

test('a terminated worker thread waits for what still uses its borrowed memory', async () => {
  expect(await run('held-child.js')).toEqual({ ...CLEAN_END, stdout: 'waits\nended\n' })
})

test('a process can exit with transfers in flight', { timeout: 120_000 }, async () => {
  for (let round = 0; round < 10; round++) {
    expect(await run('exit-child.js', round % 2 === 0 ? 'exit' : 'exit-later')).toEqual({ ...CLEAN_END, stdout: '' })
  }
})

test('a process can exit while its I/O is held', async () => {
  expect(await run('exit-child.js', 'hold')).toEqual({ ...CLEAN_END, stdout: '' })
})

test('an uncaught error ends a process with transfers in flight', async () => {
  const end = await run('exit-child.js', 'throw')
  expect(end).toMatchObject({ code: 1, signal: null })
  expect(end.stderr).toContain('expected by the test')
})

test('a process lasts until its transfers have settled, and no longer', async () => {
  expect(await run('exit-child.js', 'settle')).toEqual({ ...CLEAN_END, stdout: '' })
})

test('completion words that are detached are one uncaught error, nothing starts any more, and the process ends', async () => {
  const stdout = 'ERR_KV_DETACHED_ARRAY\nERR_KV_DETACHED_ARRAY\n'
  expect(await run('broken-settings-child.js', 'detach')).toEqual({ ...CLEAN_END, stdout })
})

test('completion words that can be resized are refused', async () => {
  const stdout = 'ERR_KV_INVALID_TYPE\nERR_KV_INVALID_TYPE\n'
  expect(await run('broken-settings-child.js', 'resizable')).toEqual({ ...CLEAN_END, stdout })
})

test("a window's memory that went to another thread outlives the window's own", async (context) => {
  if (CANNOT_TAKE !== '') context.skip(CANNOT_TAKE)
  expect(await run('taken-window-child.js')).toEqual({ ...CLEAN_END, stdout: '9\n' })
})

test('a settle that throws is an uncaught error, and the process ends by itself', async () => {
  expect(await run('broken-settings-child.js', 'throw')).toEqual({ ...CLEAN_END, stdout: 'thrown by settle\n' })
})
