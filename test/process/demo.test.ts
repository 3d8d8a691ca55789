/** The demo's child process where something goes wrong: it tells its parent once, and ends without a word of its own. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { showResult } from '../../lib/cli/demo.ts'
import { CLEAN_END, endOf } from '../support/child.ts'
import { temporaryFolder } from '../support/folder.ts'

const WORKER = fileURLToPath(new URL('../../dist/cli/demo/worker.js', import.meta.url))
const FAILING_REQUEST = new URL('./demo/failing-request.js', import.meta.url).href

/** Starts the worker on an empty tier. */
function startWorker(execArgv: string[], device = 'host') {
  const task = { directory: temporaryFolder(), device, firstRequest: 0, measurePaths: false }
  const env = { ...process.env, KVTIER_CUDA_LIBRARY: '/nowhere/libcuda.so.1' }
  const child = fork(WORKER, [JSON.stringify(task)], { execArgv, env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  const messages: { readonly type: string }[] = []
  child.on('message', (message: { type: string }) => messages.push(message))
  return { child, messages, end: endOf(child) }
}

test('a request that fails ends the process with its error, and those beside it end quietly', async () => {
  const { messages, end } = startWorker(['--import', FAILING_REQUEST])
  expect(await end).toEqual({ ...CLEAN_END, code: 1, stdout: '' })
  const failures = messages.filter((message) => message.type === 'failed')
  expect(failures).toMatchObject([{ message: expect.stringContaining('expected by the test, request 9') }])
})

test('what kvtier refuses is told in its own words and with its code', async () => {
  const { messages, end } = startWorker([], 'cuda')
  expect(await end).toEqual({ ...CLEAN_END, code: 1, stdout: '' })
  const message = expect.stringMatching(/^device\.kind 'cuda' was asked for, but no GPU can be used here: [^\n]+$/)
  expect(messages).toEqual([{ type: 'failed', code: 'ERR_KV_UNSUPPORTED', message }])
})

test('a process whose parent is gone ends quietly in the middle of its work', async () => {
  const { child, messages, end } = startWorker([])
  await new Promise((resolve) => child.once('message', resolve))
  child.disconnect()
  expect(await end).toEqual({ ...CLEAN_END, stdout: '' })
  expect(messages.map((message) => message.type)).not.toContain('end')
})

test('rates of a simulated GPU are shown with a line that says so, others without', () => {
  const result = {
    requests: 1,
    tokens: { asked: 1, recomputed: 1, byTier: { device: 0, host: 0, disk: 0 } },
    verifiedBlocks: 0,
    wrongBlocks: 0,
    killedAfterRequests: 1,
    recoveredBlocks: 0,
    restartMs: 1,
    checksumFailures: 0,
    paths: [],
  }
  expect(showResult({ ...result, simulated: true })).toContain('rates say nothing about a GPU.\n')
  expect(showResult({ ...result, simulated: false })).not.toContain('simulated')
})
