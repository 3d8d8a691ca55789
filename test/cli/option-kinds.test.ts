import { describe, expect, it } from 'vitest'

import { countOfShare, parseCount, parseShare, parseSize, parseValue } from '../../lib/cli/option-kinds.js'
import { errorOf } from '../support/expect-code.js'

describe('a size', () => {
  it.each([
    ['1', 1],
    ['4096', 4096],
    ['4096B', 4096],
    ['64KiB', 65_536],
    ['64kib', 65_536],
    ['64 KiB', 65_536],
    ['1.5GiB', 1_610_612_736],
    ['2GB', 2_000_000_000],
    ['3MiB', 3_145_728],
    ['1TiB', 2 ** 40],
    ['2kB', 2000],
    ['5MB', 5_000_000],
    ['1TB', 1e12],
  ])('of %s is %d bytes', (text, bytes) => {
    expect(parseSize('--bytes', text)).toBe(bytes)
  })

  it.each([
    '',
    '0',
    '0KiB',
    '-1',
    '1K',
    '1k',
    '64Ki',
    'KiB',
    '1e3',
    '1,000',
    '0x10',
    '1.KiB',
    '9PiB',
    '9000000TiB',
    'NaN',
  ])('is not %j', (text) => {
    const error = errorOf('ERR_KV_USAGE', () => parseSize('--bytes', text))
    expect(error.message).toContain('--bytes')
    expect(error.message).toContain('64KiB')
  })
})

describe('a count', () => {
  it.each([
    ['1', 1],
    ['2000', 2000],
    ['2_000', 2000],
    ['2,000', 2000],
  ])('of %s is %d', (text, count) => {
    expect(parseCount('-n', text)).toBe(count)
  })

  it.each(['', '0', '-1', '1.5', '1e3', 'x', '_1', '99999999999999999999'])('is not %j', (text) => {
    errorOf('ERR_KV_USAGE', () => parseCount('-n', text))
  })
})

describe('a share', () => {
  it.each([
    ['5%', { percent: 5 }],
    ['0.5 %', { percent: 0.5 }],
    ['100%', { percent: 100 }],
    ['2000', { count: 2000 }],
  ])('of %s is read', (text, share) => {
    expect(parseShare('--capacity', text)).toEqual(share)
  })

  it.each(['', '%', '0%', '0', '-5%', '1001%', '5%%', 'five', '1.5'])('is not %j', (text) => {
    errorOf('ERR_KV_USAGE', () => parseShare('--capacity', text))
  })

  it('is at least one of what it shares', () => {
    expect(countOfShare({ percent: 5 }, 1000)).toBe(50)
    expect(countOfShare({ percent: 0.5 }, 43_924)).toBe(220)
    expect(countOfShare({ percent: 0.001 }, 1000)).toBe(1)
    expect(countOfShare({ count: 7 }, 1000)).toBe(7)
  })
})

describe('a choice and a text', () => {
  const spec = { kind: 'choice', choices: ['lru', 'lfu'], placeholder: 'NAME', help: '' } as const

  it('take what is offered', () => {
    expect(parseValue('--policy', spec, 'lfu')).toBe('lfu')
    expect(parseValue('--name', { kind: 'text', placeholder: 'TEXT', help: '' }, 'anything')).toBe('anything')
  })

  it('refuse what is not, and nothing', () => {
    expect(errorOf('ERR_KV_USAGE', () => parseValue('--policy', spec, 'mru')).message).toContain('lru, lfu')
    expect(errorOf('ERR_KV_USAGE', () => parseValue('--policy', spec, '')).message).toContain('--policy NAME')
  })
})
