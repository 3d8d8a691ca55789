/** A process whose memory is limited, by the shell that starts it, to what it has and a little more. */
import { execFile, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const child = fileURLToPath(new URL('./out-of-memory/child.js', import.meta.url))
// A sanitizer takes more address space than any limit would leave it.
const able = process.env.KVTIER_SANITIZER === undefined && spawnSync('prlimit', ['--version']).status === 0

test.skipIf(!able)('work on an engine thread for which there is no memory fails, and the process goes on', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [child])
  expect(stdout).toBe('ERR_KV_OUT_OF_MEMORY\nhashed 1 block\n')
})
