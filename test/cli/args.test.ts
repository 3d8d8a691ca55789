import { describe, expect, it } from 'vitest'

import { parseVerbArgs } from '../../lib/cli/args.js'
import { defineVerb, type Verb } from '../../lib/cli/context.js'
import { errorOf } from '../support/expect-code.js'

const VERB: Verb = defineVerb({
  name: 'test',
  summary: 'test',
  usage: 'FILE --capacity N|N%',
  details: 'Test.',
  operands: { least: 1, most: 1 },
  options: {
    capacity: { kind: 'share', placeholder: 'N|N%', required: true, help: 'size of the cache' },
    policy: { kind: 'choice', placeholder: 'NAME', choices: ['lru', 'lfu'], help: 'which block leaves first' },
    bytes: { kind: 'size', placeholder: 'SIZE', help: 'bytes a block' },
    fast: { kind: 'flag', help: 'hurry' },
  },
  run: () => Promise.resolve({ json: {}, text: '' }),
})

describe('a command line', () => {
  it('gives options in any order and form, converted', () => {
    const expected = { capacity: { percent: 5 }, policy: 'lfu', bytes: 65_536, fast: true, json: true, help: false }
    const lines = [
      ['a.gz', '--capacity', '5%', '--policy', 'lfu', '--bytes', '64KiB', '--fast', '--json'],
      ['--json', '--fast', '--bytes=64KiB', '--policy=lfu', '--capacity=5%', 'a.gz'],
    ]
    for (const line of lines) {
      expect(parseVerbArgs(VERB, line)).toEqual({ help: false, json: true, values: expected, operands: ['a.gz'] })
    }
  })

  it('has false for flags that are absent and nothing for values', () => {
    const { values, json } = parseVerbArgs(VERB, ['a', '--capacity', '7'])
    expect(values).toEqual({ capacity: { count: 7 }, fast: false, json: false, help: false })
    expect(json).toBe(false)
  })

  it('takes what follows -- as operands', () => {
    expect(parseVerbArgs(VERB, ['--capacity', '7', '--', '--fast']).operands).toEqual(['--fast'])
  })

  it.each([[['--help']], [['-h']], [['--bogus', '--help']], [['a', 'b', 'c', '-h']]])(
    'asks for help with %j, whatever else is wrong',
    (line) => {
      expect(parseVerbArgs(VERB, line).help).toBe(true)
    },
  )

  it.each([
    ['an unknown option', ['a', '--capacity', '7', '--zzz'], /no option --zzz\.$/],
    ['a misspelt option', ['a', '--capactiy', '7'], /no option --capactiy\. Did you mean '--capacity'\?/],
    ['the beginning of an option', ['a', '--cap', '7'], /Did you mean '--capacity'\?/],
    ['a short option', ['a', '--capacity', '7', '-x'], /no option -x/],
    ['a name that every object has', ['a', '--capacity', '7', '--constructor'], /no option --constructor/],
    ['a missing value', ['a', '--capacity'], /--capacity needs a value: --capacity N\|N%/],
    ['a value that is the next option', ['a', '--capacity', '--fast'], /--capacity needs a value/],
    ['an empty value', ['a', '--capacity='], /--capacity needs a value/],
    ['a value for a flag', ['a', '--capacity', '7', '--fast=yes'], /--fast takes no value, but "yes"/],
    ['an option twice', ['a', '--capacity', '7', '--capacity', '8'], /--capacity is given twice/],
    ['a wrong value', ['a', '--capacity', 'big'], /--capacity must be a share such as 5%.*"big"/],
    ['a value that is not offered', ['a', '--capacity', '7', '--policy', 'mru'], /one of lru, lfu, but is "mru"/],
    ['a missing option', ['a'], /test needs --capacity N\|N% \(size of the cache\)/],
    ['no operand', ['--capacity', '7'], /test takes 1 operand, but 0 were given: kvtier test FILE --capacity/],
    ['too many operands', ['a', 'b', '--capacity', '7'], /test takes 1 operand, but 2 were given/],
  ])('is refused with %s', (_, line, message) => {
    expect(errorOf('ERR_KV_USAGE', () => parseVerbArgs(VERB, line)).message).toMatch(message)
  })
})
