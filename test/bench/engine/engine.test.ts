import { describe, expect, it } from 'vitest'
import { installOutcome } from '../../../bench/engine/engine.js'
import { mainThreadRows } from '../../../bench/engine/main-thread.js'
import { promptOf } from '../../../bench/engine/prompts.js'
import { resultOf } from '../../../bench/harness/rounds.js'

describe('the engine', () => {
  it('is skipped with the reason where it cannot be had, and its installing must not fail', () => {
    expect(installOutcome(0, '')).toBeNull()
    expect(installOutcome(3, 'no registry\n')).toEqual({ skipped: 'no registry' })
    expect(() => installOutcome(1, 'npm broke\n')).toThrow('npm broke')
    expect(() => installOutcome(null, '')).toThrow('could not be installed')
  })
})

describe('a prompt', () => {
  it('has as many tokens as asked for, also where a token is many letters, and begins as a shorter one does', () => {
    const bytes = { tokenize: (text: string): number[] => [...Buffer.from(text, 'latin1')] }
    const words = { tokenize: (text: string): number[] => text.split(' ').map((word) => word.length) }
    for (const model of [bytes, words]) {
      const prompt = promptOf(model, 500)
      expect(prompt).toHaveLength(500)
      expect(promptOf(model, 100)).toEqual(prompt.slice(0, 100))
      expect(promptOf(model, 500, 2)).not.toEqual(prompt)
    }
  })
})

describe('the rows of the main thread', () => {
  it('take the longest stretch of all rounds', () => {
    const rows = mainThreadRows({}, true)
    const samples = [1, 2.5, 0.5].map((ms) => Object.fromEntries(rows.map(({ subject }) => [subject, ms])))
    const limits = { 'save delay': 1, 'load delay': 1 }
    const results = rows.map((row) =>
      resultOf(
        'engine',
        row,
        samples.map((sample) => ({ ...sample, ...limits })),
      ),
    )
    const stretches = results.filter(({ name }) => name.startsWith('longest stretch'))
    expect(stretches).toHaveLength(3)
    for (const result of stretches) expect(result).toMatchObject({ value: 2.5, met: false, limit: null })
    for (const { name, value } of results) if (name.startsWith('longest delay')) expect(value).toBe(1)
  })
})
