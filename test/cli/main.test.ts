import { describe, expect, it } from 'vitest'

import { defineVerb, type Verb } from '../../lib/cli/context.js'
import { VERBS } from '../../lib/cli/verbs.js'
import { KvError } from '../../lib/errors.js'
import { run } from './world.js'

/** A verb that does what the test says. */
function verbOf(act: Verb['run']): readonly Verb[] {
  return [
    defineVerb({
      name: 'act',
      summary: 'act',
      usage: '[THING]',
      details: 'Acts.',
      operands: { least: 0, most: 1 },
      options: { hard: { kind: 'flag', help: 'try harder' } },
      run: act,
    }),
  ]
}

const failing = (error: unknown): readonly Verb[] => verbOf(() => Promise.reject(error))

describe('kvtier', () => {
  it.each([[[]], [['--help']], [['-h']], [['help']]])('lists its verbs with %j', async (args) => {
    const { exitCode, stdout, stderr } = await run(args)
    expect([exitCode, stderr]).toEqual([0, ''])
    for (const verb of VERBS) expect(stdout).toContain(`\n  ${verb.name} `)
    expect(stdout).toContain('--json')
    expect(stdout.split('\n').every((line) => line.length <= 120)).toBe(true)
  })

  it.each(VERBS.map((verb) => [verb.name, verb] as const))(
    'explains %s and each of its options',
    async (name, verb) => {
      for (const args of [
        [name, '--help'],
        [name, '-h'],
        ['help', name],
      ]) {
        const { exitCode, stdout } = await run(args)
        expect(exitCode).toBe(0)
        expect(stdout).toContain(`Usage: kvtier ${name}`)
        for (const option of [...Object.keys(verb.options), 'json', 'help']) expect(stdout).toContain(`--${option}`)
      }
    },
  )

  it('prints the version', async () => {
    for (const args of [['--version'], ['-V']]) {
      expect(await run(args)).toEqual({ exitCode: 0, stdout: '1.2.3\n', stderr: '' })
    }
  })

  it.each([
    ['a misspelt verb', ['inspekt'], 'no verb "inspekt". Did you mean \'inspect\'?'],
    ['an unknown verb', ['frobnicate'], 'The verbs are '],
    ['--json alone', ['--json'], '--json needs a verb, for example: kvtier doctor --json. The verbs are demo, '],
    ['--json twice and no verb', ['--json', '--json'], '--json needs a verb'],
    ['an unknown option before the verb', ['--verbose'], 'There is no option "--verbose"'],
    ['help for an unknown verb', ['help', 'doktor'], "Did you mean 'doctor'?"],
    ['a misspelt option', ['doctor', '--jsno'], "There is no option --jsno. Did you mean '--json'?"],
    ['an operand too many', ['doctor', 'a', 'b'], 'doctor takes at most 1 operand, but 2 were given'],
    ['an operand too few', ['inspect'], 'inspect takes 1 operand, but 0 were given'],
  ])('refuses %s with exit code 2 and one or two lines', async (_, args, message) => {
    const { exitCode, stdout, stderr } = await run(args)
    expect([exitCode, stdout]).toEqual([2, ''])
    expect(stderr).toContain(message)
    expect(stderr).toContain('(ERR_KV_USAGE)')
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(2)
  })

  it('does not run a verb whose command line is wrong', async () => {
    const verbs = verbOf(() => Promise.reject(new Error('ran')))
    expect((await run(['act', '--nope'], { verbs })).exitCode).toBe(2)
  })
})

describe('a verb', () => {
  it('has its text printed, or its JSON, and its exit code returned', async () => {
    const verbs = verbOf((context) =>
      Promise.resolve({ json: { hard: context.values.hard }, text: 'done\n', exitCode: context.operands.length }),
    )
    expect(await run(['act'], { verbs })).toEqual({ exitCode: 0, stdout: 'done\n', stderr: '' })
    const json = await run(['act', 'x', '--json', '--hard'], { verbs })
    expect([json.exitCode, JSON.parse(json.stdout)]).toEqual([1, { hard: true }])
    expect((await run(['--json', 'act'], { verbs })).stdout).toBe('{\n  "hard": false\n}\n')
  })

  it.each([[['act']], [['act', '--json']]])(
    'that fails leaves stdout empty and says why on stderr: %j',
    async (args) => {
      const verbs = failing(new KvError('ERR_KV_IO', 'Reading slot 7 failed: EIO.'))
      expect(await run(args, { verbs })).toEqual({
        exitCode: 1,
        stdout: '',
        stderr: 'kvtier act: Reading slot 7 failed: EIO. (ERR_KV_IO)\n',
      })
    },
  )

  it('that refuses its options itself has exit code 2', async () => {
    const { exitCode, stderr } = await run(['act'], { verbs: failing(new KvError('ERR_KV_USAGE', 'No.')) })
    expect(exitCode).toBe(2)
    expect(stderr).toBe("kvtier act: No. (ERR_KV_USAGE)\n'kvtier act --help' says what it takes.\n")
  })

  it('that fails with several lines, or with control characters, is quoted on one line', async () => {
    const verbs = failing(new KvError('ERR_KV_ADDON_MISSING', 'There is no addon.\n  Tried a.\n  Tried \u001b[31mb.\n'))
    expect((await run(['act'], { verbs })).stderr).toBe(
      'kvtier act: There is no addon. Tried a. Tried ?[31mb. (ERR_KV_ADDON_MISSING)\n',
    )
  })

  it('that breaks says that it is a fault of kvtier, where it happened, in two lines', async () => {
    const { exitCode, stderr } = await run(['act'], { verbs: failing(new TypeError('x is not a function')) })
    expect(exitCode).toBe(1)
    expect(stderr).toMatch(/^kvtier act: TypeError: x is not a function at .*main\.test\.ts.* \(ERR_KV_INTERNAL\)\n/)
    expect(stderr).toContain('please report it')
    expect(stderr.trimEnd().split('\n')).toHaveLength(2)
    expect((await run(['act'], { verbs: failing('a string') })).stderr).toContain(
      'kvtier act: a string (ERR_KV_INTERNAL)',
    )
  })

  it('that is interrupted has exit code 130, whatever it was doing', async () => {
    const controller = new AbortController()
    const verbs = verbOf(async (context) => {
      controller.abort(new KvError('ERR_KV_ABORTED', 'Interrupted.'))
      context.signal.throwIfAborted()
      return { json: {}, text: 'not printed' }
    })
    expect(await run(['act'], { verbs, signal: controller.signal })).toEqual({
      exitCode: 130,
      stdout: '',
      stderr: 'kvtier act: interrupted (ERR_KV_ABORTED)\n',
    })
  })
})
