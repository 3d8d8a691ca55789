/** The README's first program, run as a reader would: from an empty directory, twice. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The only JavaScript block of the README, importing from this checkout. */
function program(): string {
  const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```js\n(.*?)```/gs)]
  expect(blocks).toHaveLength(1)
  const text = blocks[0]?.[1] ?? ''
  expect(text).toContain("from 'kvtier'")
  return text.replace("from 'kvtier'", `from ${JSON.stringify(join(root, 'dist', 'index.js'))}`)
}

function run(directory: string): Promise<{ code: number | null; lines: string[]; stderr: string }> {
  const child = spawn(process.execPath, ['first.mjs'], { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
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
    child.once('close', (code) => resolve({ code, lines: stdout.trim().split('\n'), stderr }))
  })
}

test('the README’s dozen lines run, and find a warm disk tier the second time', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kvtier-readme-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'first.mjs'), program())
  for (const held of [0, 192]) {
    expect(await run(directory)).toEqual({
      code: 0,
      stderr: '',
      lines: [`held before: ${held}`, 'stored: 192 tokens; block 0 reached disk', 'need not be computed: 192 tokens'],
    })
  }
})
