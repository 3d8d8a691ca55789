import { expect, test } from 'vitest'
import { render } from '../../scripts/generate-bindings.js'

const description = {
  codes: [
    { name: 'OK', meaning: 'The call succeeded.' },
    { name: 'ERR_KV_IO', meaning: "The system's read failed." },
  ],
  transferPaths: ['memoryToMemory'],
  layoutKinds: ['contiguous'],
  storageKinds: ['memory', 'slab'],
  copyStrategies: ['single'],
  limits: { recordWords: 5 },
}

test('a code is printed as a name, a number and a meaning', () => {
  const text = render(description)
  expect(text).toContain("export const ERROR_CODES = ['OK', 'ERR_KV_IO'] as const")
  expect(text).toContain('  ERR_KV_IO: 1,')
  expect(text).toContain('  ERR_KV_IO: "The system\'s read failed.",')
})

test('another list of codes is another text, so that a stale file is seen', () => {
  const codes = [...description.codes, { name: 'ERR_KV_NEW', meaning: 'New.' }]
  expect(render({ ...description, codes })).not.toBe(render(description))
})
