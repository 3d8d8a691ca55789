import { describe, expect, test } from 'vitest'
import { flag, integer, KvError, nearest, object, onlyKnown, optionsOf } from '../lib/errors.ts'
import { errorOf } from './support/expect-code.ts'

test('integers are safe ones between their bounds', () => {
  expect(integer('n', 5, 5, 5)).toBe(5)
  for (const value of [4, 6, 5.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
    const error = errorOf('ERR_KV_INVALID_VALUE', () => integer('n', value, 5, 5))
    expect(error.message).toContain('n must be an integer between 5 and 5')
  }
  for (const value of ['5', null, undefined, 5n, {}]) errorOf('ERR_KV_INVALID_TYPE', () => integer('n', value, 5, 5))
})

test('messages shorten long texts and name what is no number', () => {
  const long = errorOf('ERR_KV_INVALID_TYPE', () => object('o', 'x'.repeat(500)))
  expect(long.message.length).toBeLessThan(200)
  expect(errorOf('ERR_KV_INVALID_TYPE', () => object('o', [])).message).toContain('an array')
  expect(errorOf('ERR_KV_INVALID_TYPE', () => integer('n', new Map(), 0)).message).toContain('a Map')
})

test('flags are true or false, or their default', () => {
  expect([flag('f', true, false), flag('f', false, true), flag('f', undefined, true)]).toEqual([true, false, true])
  for (const value of [null, 0, 'true', {}]) {
    expect(errorOf('ERR_KV_INVALID_TYPE', () => flag('f', value, true)).message).toContain('f must be true or false')
  }
})

describe('an object whose fields are known', () => {
  const known = ['signal', 'deadlineMs']

  test('is returned as it is', () => {
    const given = { deadlineMs: 1 }
    expect(optionsOf('options', given, known)).toBe(given)
    expect(optionsOf('options', {}, known)).toEqual({})
  })

  test('is refused for a field that is not, with the nearest one and all there are', () => {
    const error = errorOf('ERR_KV_INVALID_VALUE', () => onlyKnown('options', { signal: 1, deadline_ms: 2 }, known))
    expect(error).toBeInstanceOf(KvError)
    expect(error.message).toBe(
      "options.deadline_ms is unknown. Did you mean 'deadlineMs'? Known are signal, deadlineMs.",
    )
    const far = errorOf('ERR_KV_INVALID_VALUE', () => onlyKnown('options', { constructor: undefined }, known))
    expect(far.message).toBe('options.constructor is unknown. Known are signal, deadlineMs.')
    const long = errorOf('ERR_KV_INVALID_VALUE', () => onlyKnown('options', { ['x'.repeat(5000)]: 1 }, known))
    expect(long.message.length).toBeLessThan(200)
  })

  test('is refused when it is no object', () => {
    for (const value of [null, undefined, 5, 'signal', ['signal']])
      errorOf('ERR_KV_INVALID_TYPE', () => optionsOf('options', value, known))
  })
})

describe('nearest', () => {
  const names = ['demo', 'doctor', 'replay', 'inspect', 'verify', 'json']

  test.each([
    ['dcotor', 'doctor'],
    ['docter', 'doctor'],
    ['DOCTOR', 'doctor'],
    ['insp', 'inspect'],
    ['verfiy', 'verify'],
    ['repaly', 'replay'],
    ['dem', 'demo'],
    ['jsn', 'json'],
  ])('of %s is %s', (word, name) => {
    expect(nearest(word, names)).toBe(name)
  })

  test.each([
    ['deadlinems', 'deadlineMs'],
    ['deadline', 'deadlineMs'],
    ['MAXBLOCKS', 'maxBlocks'],
  ])('of %s is %s, whatever their capitals', (word, name) => {
    expect(nearest(word, ['after', 'deadlineMs', 'maxBlocks'])).toBe(name)
  })

  test.each(['', 'd', 'xyz', 'benchmark', 'jo', 'constructor'])('of %j is nothing', (word) => {
    expect(nearest(word, names)).toBeUndefined()
  })
})
