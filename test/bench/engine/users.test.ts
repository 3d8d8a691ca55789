import { describe, expect, it } from 'vitest'
import { checkTie, departuresOf, usersRows } from '../../../bench/engine/many-users.js'
import type { MeterDifference } from '../../../bench/engine/prompts.js'
import { serveUsers, USERS } from '../../../bench/engine/users.js'
import { resultOf } from '../../../bench/harness/rounds.js'

/** Evaluates without a model: it remembers its tokens and counts as the engine's meter does. */
class FakeSequence {
  tokens: number[] = []
  readonly #meter = { usedInputTokens: 0, usedOutputTokens: 0 }
  readonly tokenMeter = {
    getState: (): MeterDifference => ({ ...this.#meter }),
    diff: (before: MeterDifference): MeterDifference => ({
      usedInputTokens: this.#meter.usedInputTokens - before.usedInputTokens,
      usedOutputTokens: this.#meter.usedOutputTokens - before.usedOutputTokens,
    }),
  }

  get nextTokenIndex(): number {
    return this.tokens.length
  }

  /** Erases what is not the prompt's. */
  adapt(prompt: readonly number[]): void {
    let same = 0
    while (same < this.tokens.length && same < prompt.length - 1 && this.tokens[same] === prompt[same]) same++
    this.tokens.length = same
  }

  async *evaluate(tokens: number[]): AsyncGenerator<number> {
    this.tokens.push(...tokens)
    this.#meter.usedInputTokens += tokens.length
    for (;;) {
      const token = this.tokens.reduce((sum, value) => (sum * 31 + value) % 251, 7)
      yield token
      this.tokens.push(token)
      this.#meter.usedOutputTokens++
    }
  }
}

const MODEL = { tokenize: (text: string): number[] => [...Buffer.from(text, 'latin1')] }

describe('many users of one sequence', () => {
  it('ask for 31,104 tokens in all, each of which is evaluated where nothing is kept', async () => {
    const sequence = new FakeSequence()
    const run = await serveUsers(MODEL, sequence, async () => {
      sequence.tokens = []
    })
    expect(run.promptTokens).toBe(31_104)
    expect(run.evaluated).toBe(31_104)
    expect(run.answers).toHaveLength(USERS.count * USERS.turns)
    for (const answer of run.answers) expect(answer).toHaveLength(USERS.answer)
  })

  it('share the system prompt where the sequence keeps what the next one shares, and are answered alike', async () => {
    const fresh = new FakeSequence()
    const reset = await serveUsers(MODEL, fresh, async () => {
      fresh.tokens = []
    })
    const sequence = new FakeSequence()
    const reuse = await serveUsers(MODEL, sequence, async (prompt) => sequence.adapt(prompt))
    expect(departuresOf('reuse', reset, reuse)).toEqual([])
    expect(reuse.evaluated).toBeGreaterThan(USERS.system)
    expect(reuse.evaluated).toBeLessThan(8_000)
  })

  it('go on from the answers that they are said to have had', async () => {
    const sequence = new FakeSequence()
    const before = async (): Promise<void> => {
      sequence.tokens = []
    }
    const own = await serveUsers(MODEL, sequence, before)
    const said = own.answers.map((answer) => answer.map((token) => token + 1))
    const other = await serveUsers(MODEL, sequence, before, undefined, said)
    const second = USERS.count
    expect(other.prompts.slice(0, second)).toEqual(own.prompts.slice(0, second))
    const start = USERS.system + USERS.turn
    expect(own.prompts[second]?.slice(start, start + USERS.answer)).toEqual(own.answers[0])
    expect(other.prompts[second]?.slice(start, start + USERS.answer)).toEqual(said[0])
  })

  it('are told apart where one answer is another one', () => {
    const run = { prompts: [], answers: [[1, 2], [3]], promptTokens: 0, evaluated: 0 }
    const departures = (...answers: number[][]) => departuresOf('kvtier', run, { ...run, answers })
    expect(departures([1, 2], [3])).toEqual([])
    expect(departures([1, 5], [4])).toEqual([
      { request: 0, at: 1 },
      { request: 1, at: 0 },
    ])
    expect(departures([1, 2], [3, 4])).toEqual([{ request: 1, at: 1 }])
    expect(departures([1], [3])).toEqual([{ request: 0, at: 1 }])
    expect(() => departures([1, 2])).toThrow('of 2 requests')
  })

  it('end the run where the engine alone would have answered the same', () => {
    const departure = { request: 1, at: 3 }
    expect(() => checkTie('kvtier', departure, { gap: 1e-4, rounding: 1e-3 })).not.toThrow()
    expect(() => checkTie('kvtier', departure, { gap: 1e-2, rounding: 1e-3 })).toThrow('Request 1 was answered')
    expect(() => checkTie('kvtier', departure, { gap: Number.NaN, rounding: 1e-3 })).toThrow('from token 3 on')
    expect(() => checkTie('kvtier', departure, { gap: Number.POSITIVE_INFINITY, rounding: 0 })).toThrow('Request 1')
  })

  it('are a row against the reuse of the engine, at most 0.60 of it', () => {
    const sample = { reset: 31_104, reuse: 7_534, kvtier: 4_474 }
    const [, kvtier] = usersRows({}).map((row) => resultOf('engine', row, [sample]))
    expect(kvtier).toMatchObject({ value: 4_474, limit: { value: 7_534 }, met: true })
    const [, worse] = usersRows({}).map((row) => resultOf('engine', row, [{ ...sample, kvtier: 5_000 }]))
    expect(worse?.met).toBe(false)
  })
})
