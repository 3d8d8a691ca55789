/**
 * Managers in processes and worker threads that end, well or badly, with transfers in flight. Crashes at the end show in a
 * few of a hundred ends, so each way is looped; a child that ends by a signal, or says anything on stderr, fails.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import { defineLayout } from '../../lib/identity/model-layout.ts'
import { type ChildEnd, CLEAN_END, runScript } from '../support/child.ts'
import { temporaryFolder } from '../support/folder.ts'

const LOOPS = process.env.KVTIER_LONG === '1' ? 10 : 1

function childPath(file: string): string {
  return fileURLToPath(new URL(`./managers/${file}`, import.meta.url))
}

const run = (file: string, ...args: string[]): Promise<ChildEnd> => runScript(childPath(file), args)

test('worker threads with managers can be terminated with transfers in flight; their stores open again, and are right', {
  timeout: 600_000,
}, async () => {
  const rounds = `${6 * LOOPS}`
  expect(await run('workers-child.js', temporaryFolder(), rounds)).toEqual({ ...CLEAN_END, stdout: 'rounds done\n' })
})

test.each(['exit', 'exit later', 'closing'])(
  'a process can %s with transfers in flight',
  { timeout: 600_000 },
  async (way) => {
    for (let round = 0; round < 5 * LOOPS; round++) {
      expect(await run('exit-child.js', temporaryFolder(), way), `round ${round}`).toEqual({ ...CLEAN_END, stdout: '' })
    }
  },
)

test('an uncaught error ends a process with transfers in flight', async () => {
  const end = await run('exit-child.js', temporaryFolder(), 'throw')
  expect(end).toMatchObject({ code: 1, signal: null })
  expect(end.stderr).toContain('expected by the test')
})

test('an open manager with nothing pending does not keep its process alive', async () => {
  expect(await run('exit-child.js', temporaryFolder(), 'idle')).toEqual({ ...CLEAN_END, stdout: 'wrong 0\n' })
})

test('nor do reservations, readings and pins that are not released', async () => {
  expect(await run('exit-child.js', temporaryFolder(), 'held')).toEqual({ ...CLEAN_END, stdout: 'read 65536 bytes\n' })
})

test('a process lasts until its transfers have settled', async () => {
  for (let round = 0; round < 3 * LOOPS; round++) {
    expect(await run('exit-child.js', temporaryFolder(), 'in flight')).toEqual({
      ...CLEAN_END,
      stdout: 'all settled\n',
    })
  }
})

test('two managers in one process share the engine, and one closes without the other', {
  timeout: 120_000,
}, async () => {
  for (let round = 0; round < 2 * LOOPS; round++) {
    expect(await run('two-child.js', temporaryFolder())).toEqual({ ...CLEAN_END, stdout: 'wrong 0\n' })
  }
})

test('a directory that another process has open is ERR_KV_LOCKED, until that one closes it or dies', async () => {
  const directory = temporaryFolder()
  const layout = defineLayout({
    tokensPerBlock: 4,
    dtype: 'test',
    groups: [{ name: 'full', kind: 'full', layers: 4, bytesPerToken: 2048 }],
  })
  const open = () =>
    BlockManager.open({
      layout,
      model: 'process-test',
      host: { capacityBytes: 1 << 20 },
      disk: { directory, capacityBytes: 96 * (65_536 + 128) },
    })
  for (const end of ['close', 'kill']) {
    const child = spawn(process.execPath, [childPath('lock-child.js'), directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const closed = new Promise<void>((resolve) => {
      child.once('close', () => resolve())
    })
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve)
      child.once('close', reject)
    })
    const error = await open().catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'ERR_KV_LOCKED', message: expect.stringContaining(`${child.pid}`) })
    if (end === 'close') child.stdin.write('end\n')
    else child.kill('SIGKILL')
    await closed
    await (await open()).close()
  }
})
