/** The two files of the seam name the same calls in the same order, with the same signatures. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

import { binding, RECORD_WORDS } from '../../lib/native/binding.js'
import { LIMITS } from '../../lib/native/generated.js'

const typed = ['binding', 'testing-binding']
  .map((name) => readFileSync(new URL(`../../lib/native/${name}.ts`, import.meta.url), 'utf8'))
  .join('\n')
const mounted = readFileSync(new URL('../../native/binding/addon.cc', import.meta.url), 'utf8')
const mountedTesting = readFileSync(new URL('../../native/binding/testing_calls.cc', import.meta.url), 'utf8')

/** Without comments and line breaks, and with one space between words. */
function squeeze(text: string): string {
  return text
    .replaceAll(/\/\*\*[\s\S]*?\*\//g, '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/\( /g, '(')
    .replaceAll(/,? \)/g, ')')
}

/** The signatures of an interface, "name(argument: type): type". */
function signatures(name: string): string[] {
  const body = new RegExp(`export interface ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(typed)?.[1] ?? ''
  return squeeze(body)
    .split(/ (?=(?:readonly )?\w+\??[(:] ?)(?![^(]*\))/)
    .map((line) => line.trim())
    .filter((line) => line.includes('('))
}

/** The comment before each mount. */
function comments(source: string): string[] {
  const found: string[] = []
  let comment = ''
  for (const line of source.split('\n')) {
    const text = /^ +\/\/ (.*)$/.exec(line)?.[1]
    if (text !== undefined) comment += ` ${text}`
    else {
      if (/^ +mount</.test(line)) found.push(squeeze(comment).trim())
      comment = ''
    }
  }
  return found
}

test('the addon mounts the calls of binding.ts, in its order', () => {
  const names = signatures('Binding').map((line) => line.slice(0, line.indexOf('(')))
  expect(names.length).toBeGreaterThan(20)
  expect(Object.keys(binding).filter((name) => name !== 'testing')).toEqual(names)
})

test('each mount carries the signature of binding.ts', () => {
  expect(comments(mounted)).toEqual(signatures('Binding'))
  expect(comments(mountedTesting)).toEqual(signatures('TestingBinding'))
})

test('a test build mounts what TestingBinding names', () => {
  const names = signatures('TestingBinding').map((line) => line.slice(0, line.indexOf('(')))
  expect(Object.keys(binding.testing ?? {})).toEqual([...names, 'verifies'])
})

test('both sides count the same words of a record', () => {
  expect(RECORD_WORDS).toBe(LIMITS.recordWords)
})
