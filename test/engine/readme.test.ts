/** The README's program with node-llama-cpp, run twice: the second time it finds its prompt on disk. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { modelPath } from '../../scripts/models/cache.js'
import { CLEAN_END, runScript } from '../support/child.js'
import { withDirectory } from '../support/manager.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** What is changed of it: where packages and the model are, an engine that is never compiled, and a short answer. */
const CHANGES: readonly (readonly [string, string])[] = [
  ["from 'node-llama-cpp'", `from '${root}test/engine/node_modules/node-llama-cpp/dist/index.js'`],
  ["from 'kvtier'", `from '${root}dist/index.js'`],
  ["from 'kvtier/connectors/node-llama-cpp'", `from '${root}dist/connectors/node-llama-cpp/index.js'`],
  ["'./model.gguf'", `'${modelPath('tiny')}'`],
  [
    'getLlama()',
    "getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, logLevel: 'error' })",
  ],
  ['createContext()', 'createContext({ contextSize: 1024, threads: 1 })'],
  ["clocks?')", "clocks?', { maxTokens: 8, temperature: 0 })"],
  ['console.log(attachment.last)', 'console.log(JSON.stringify(attachment.last))'],
]

function program(): string {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const block = /\n## With node-llama-cpp\n.*?```ts\n(.*?)```/s.exec(readme)?.[1] ?? ''
  return CHANGES.reduce((text, [from, to]) => {
    expect(text).toContain(from)
    return text.replace(from, to)
  }, block)
}

test('the README’s program with node-llama-cpp runs, and brings its prompt back the second time', async () => {
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, 'chat.mjs'), program())
    const answers: (string | undefined)[] = []
    for (const disk of [0, 112]) {
      const { stdout, ...end } = await runScript('chat.mjs', [], directory)
      expect(end).toEqual(CLEAN_END)
      const [answer, last] = stdout.trimEnd().split('\n')
      answers.push(answer)
      expect(JSON.parse(last ?? '')).toMatchObject({ kept: 0, byTier: { host: 0, disk } })
    }
    expect(answers[0]).not.toBe('')
    expect(answers[1]).toBe(answers[0])
  })
})
