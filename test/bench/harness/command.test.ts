import { describe, expect, it } from 'vitest'
import { benchVerb, joinSuites, parseSuites } from '../../../bench/harness/command.js'
import { verbHelp } from '../../../lib/cli/help.js'

describe('--suite', () => {
  it('may be repeated, with and without an equals sign, between other options', () => {
    const args = joinSuites(['--suite', 'disk', '--json', '--suite=micro', '--rounds', '7'])
    expect(args).toEqual(['--suite', 'disk,micro', '--json', '--rounds', '7'])
  })

  it('is left out where nothing names one', () => {
    expect(joinSuites(['--json'])).toEqual(['--json'])
  })

  it('without a value stays for the parser to refuse', () => {
    expect(joinSuites(['--suite', '--json'])).toEqual(['--suite', '--json'])
    expect(joinSuites(['--suite'])).toEqual(['--suite'])
  })

  it('names suites with commas, and they run in their own order', () => {
    expect(parseSuites('trace, micro')).toEqual(['micro', 'trace'])
    expect(parseSuites('disk,disk')).toEqual(['disk'])
  })

  it('left out means all but those that need an engine', () => {
    expect(parseSuites(undefined)).toEqual(['micro', 'transfer', 'disk', 'trace'])
  })

  it('that does not exist is refused with the nearest one', () => {
    expect(() => parseSuites('mirco')).toThrow(/"mirco".*Did you mean 'micro'/)
  })
})

describe('the help', () => {
  it('names every option', () => {
    const help = verbHelp(benchVerb([]), 80)
    const options = ['--suite', '--only', '--rounds', '--quick', '--directory', '--json', '--help']
    for (const option of options) expect(help).toContain(option)
  })
})
