/** The README's first program, run as a reader would: from an empty directory, twice. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { CLEAN_END, runScript } from '../support/child.ts'
import { temporaryFolder } from '../support/folder.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The only JavaScript block of the README, importing from this checkout. */
function program(): string {
  const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```js\n(.*?)```/gs)]
  expect(blocks).toHaveLength(1)
  const text = blocks[0]?.[1] ?? ''
  expect(text).toContain("from 'kvtier'")
  return text.replace("from 'kvtier'", `from ${JSON.stringify(join(root, 'dist', 'index.js'))}`)
}

test('the README’s dozen lines run, and find a warm disk tier the second time', async () => {
  const directory = temporaryFolder()
  writeFileSync(join(directory, 'first.mjs'), program())
  for (const held of [0, 192]) {
    const lines = [
      `held before: ${held}`,
      'stored: 192 tokens; block 0 reached disk',
      'need not be computed: 192 tokens',
    ]
    expect(await runScript('first.mjs', [], directory)).toEqual({ ...CLEAN_END, stdout: `${lines.join('\n')}\n` })
  }
})
