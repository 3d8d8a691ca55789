/** `npm run demo:chat` as it is called, small; and what it says when answers differ. */
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import * as format from '../../lib/cli/format.js'
import * as table from '../../lib/cli/table.js'
import type { Answer, Mode } from '../../scripts/chat-demo/messages.js'
import { type Result, renderResult, resultOf } from '../../scripts/chat-demo/report.js'
import type { ServerRun } from '../../scripts/chat-demo/run.js'
import { runScript } from '../support/child.js'

const MAIN = fileURLToPath(new URL('../../scripts/chat-demo/main.js', import.meta.url))

const answer = (text: string): Answer => ({
  type: 'answer',
  text,
  prompt: 100,
  evaluated: 40,
  host: 32,
  disk: 28,
  firstTokenMs: 5,
})

function runOf(mode: Mode, texts: readonly (readonly string[])[]): ServerRun {
  return { mode, answers: texts.map((row) => row.map(answer)), held: { host: 2048, disk: 4096 }, failures: [] }
}

describe('the chat demo', () => {
  test('gives the same answers three ways, and evaluates least with kvtier', async () => {
    const { code, stdout, stderr } = await runScript(MAIN, ['--users', '2', '--turns', '3', '--json'])
    expect(stderr.split('\n').filter((line) => line.startsWith('(c) kvtier'))).toHaveLength(2)
    expect(code, stderr).toBe(0)
    const result = JSON.parse(stdout) as Result
    expect(result).toMatchObject({ identical: true, compared: 12, differences: [], failures: [] })
    const [reset, reuse, kvtier] = result.servers
    expect(reset?.before.evaluated).toBe(reset?.before.prompt)
    expect(reset?.after.evaluated).toBe(reset?.after.prompt)
    for (const part of ['before', 'after'] as const) {
      expect(reuse?.[part].evaluated).toBeLessThan(reset?.[part].evaluated ?? 0)
      expect(kvtier?.[part].evaluated).toBeLessThan(reuse?.[part].evaluated ?? 0)
    }
    expect(kvtier?.after.disk).toBeGreaterThan(0)
  })

  test.each([
    [['--users', '1'], /--users takes a whole number from 2 to 64, not '1'/],
    [['--turns', 'x'], /--turns takes a whole number from 2 to 16, not 'x'/],
    [['--batch', '0'], /--batch takes a whole number/],
    [['--model', '/nowhere/model.gguf'], /--model names no file: \/nowhere\/model\.gguf/],
    [['--what'], /--what/],
    [['word'], /word/],
  ])('ends with 2 for %j, and says why', async (args, message) => {
    const { code, stdout, stderr } = await runScript(MAIN, args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })

  test('has a help', async () => {
    const { code, stdout } = await runScript(MAIN, ['--help'])
    expect(code).toBe(0)
    for (const option of ['--users N', '--turns N', '--model PATH', '--json']) expect(stdout).toContain(option)
  })
})

describe('its report', () => {
  const same = [
    ['a', 'b'],
    ['c', 'd'],
  ]
  const setting = { users: 2, turns: 2, batch: 1, model: 'm' }

  test('says which turn of which user got another answer', () => {
    const other = [
      ['a', 'b'],
      ['c', 'x'],
    ]
    const result = resultOf([runOf('reset', same), runOf('reuse', same), runOf('kvtier', other)], setting)
    expect(result).toMatchObject({ identical: false, compared: 8 })
    expect(result.differences).toEqual([{ server: '(c) kvtier', turn: 2, user: 2 }])
    const text = renderResult(result, table, format)
    expect(text).toContain('answers identical: NO')
    expect(text).toContain('(c) kvtier: turn 2, user 2 got another answer')
    expect(text).toMatch(/^\(c\) kvtier .*1 differ$/m)
  })

  test('says yes only when all are the same', () => {
    const result = resultOf([runOf('reset', same), runOf('reuse', same), runOf('kvtier', same)], setting)
    expect(result.identical).toBe(true)
    expect(renderResult(result, table, format)).toContain('answers identical: yes')
  })
})
