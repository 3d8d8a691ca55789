/**
 * Environments that end, well or badly, with calls in flight: worker threads that are terminated, processes that exit. Borrowed memory
 * goes with its environment, and engine threads must have let go of it by then. Such crashes show in a few of a hundred
 * ends, so each way is looped; a child that ends by a signal, or says anything on stderr, fails.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'

interface End {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

function run(file: string, ...args: string[]): Promise<End> {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-teardown-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = fileURLToPath(new URL(`./teardown/${file}`, import.meta.url))
  const child = spawn(process.execPath, [path, folder, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    stderr += String(chunk)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

const clean = { code: 0, signal: null, stderr: '' }

test('worker threads can be terminated with transfers in flight', { timeout: 120_000 }, async () => {
  expect(await run('workers-child.js', '20')).toEqual({ ...clean, stdout: 'rounds done\n' })
})

test('a terminated worker thread waits for what still uses its borrowed memory', async () => {
  expect(await run('held-child.js')).toEqual({ ...clean, stdout: 'waits\nended\n' })
})

test('a process can exit with transfers in flight', { timeout: 120_000 }, async () => {
  for (let round = 0; round < 10; round++) {
    expect(await run('exit-child.js', round % 2 === 0 ? 'exit' : 'exit-later')).toEqual({ ...clean, stdout: '' })
  }
})

test('a process can exit while its I/O is held', async () => {
  expect(await run('exit-child.js', 'hold')).toEqual({ ...clean, stdout: '' })
})

test('an uncaught error ends a process with transfers in flight', async () => {
  const end = await run('exit-child.js', 'throw')
  expect(end).toMatchObject({ code: 1, signal: null })
  expect(end.stderr).toContain('expected by the test')
})

test('a process lasts until its transfers have settled, and no longer', async () => {
  expect(await run('exit-child.js', 'settle')).toEqual({ ...clean, stdout: '' })
})

test('completion words that are detached are an uncaught error, and the process ends by itself', async () => {
  expect(await run('broken-settings-child.js', 'detach')).toEqual({ ...clean, stdout: 'ERR_KV_DETACHED_ARRAY\n' })
})

test('a settle that throws is an uncaught error, and the process ends by itself', async () => {
  expect(await run('broken-settings-child.js', 'throw')).toEqual({ ...clean, stdout: 'thrown by settle\n' })
})
