/** Tokens that a server evaluates for many users of one sequence: with nothing kept, with the engine's own reuse, with kvtier. */
import type { BenchContext, Group, GroupSpec, Row, Sample, Skipped } from '../harness/types.js'
import { EngineCache } from './cache.js'
import { type LlamaModel, openModel } from './engine.js'
import { largestDifference } from './prompts.js'
import { serveUsers, USERS, type UsersRun } from './users.js'

const MODEL = { name: 'mid', dtype: 'f16' } as const
/** For a quick look. */
const QUICK_MODEL = 'tiny'
const CONTEXT_TOKENS = 2048

/** The rows; samples are counts of the engine's own meter, and the same in every round. */
export function usersRows(parameters: Row['parameters']): Row[] {
  const row = { unit: 'tokens', better: 'lower', parameters } as const
  const reset = { name: 'a sequence that is reset for each request', sample: 'reset' }
  const reuse = { name: "the engine's own reuse of a prefix", sample: 'reuse' }
  return [
    { ...row, name: "evaluated with the engine's own reuse", subject: 'reuse', limit: reset, aim: null },
    { ...row, name: 'evaluated with kvtier', subject: 'kvtier', limit: reuse, aim: { of: 'ratio', bound: 0.6 } },
    { ...row, name: 'evaluated with kvtier, all that was asked', subject: 'kvtier', limit: reset, aim: null },
  ]
}

/** How close two tokens are where an answer took another way, in logits, and how far the engine itself rounds there. */
export interface Tie {
  readonly gap: number
  readonly rounding: number
}

/** Where an answer leaves the one that it should be. */
export interface Departure {
  readonly request: number
  /** The first token of the answer that is another one. */
  readonly at: number
}

/** Where a run's answers leave those of another run. */
export function departuresOf(name: string, run: UsersRun, other: UsersRun): Departure[] {
  const count = run.answers.length
  if (other.answers.length !== count)
    throw new Error(`${other.answers.length} of ${count} requests were answered with ${name}.`)
  return other.answers.flatMap((answer, request): Departure[] => {
    const expected = run.answers[request] ?? []
    const at = expected.findIndex((token, i) => token !== answer[i])
    if (at >= 0) return [{ request, at }]
    return answer.length === expected.length ? [] : [{ request, at: expected.length }]
  })
}

/**
 * Throws unless an answer only leaves where the engine alone might: it rounds otherwise where it computes a token by itself,
 * as it does those of an answer, than where it computes many at once, and two tokens were closer than that.
 */
export function checkTie(name: string, { request, at }: Departure, { gap, rounding }: Tie): void {
  if (gap <= rounding) return
  throw new Error(
    `Request ${request} was answered differently with ${name}, from token ${at} on: the logits of the two are ${gap} apart, ` +
      `and the engine alone rounds by ${rounding} there.`,
  )
}

/** Computes both with nothing kept. */
async function tieOf(engine: EngineCache, run: UsersRun, other: UsersRun, departure: Departure): Promise<Tie> {
  const { request, at } = departure
  const answer = run.answers[request] ?? []
  const tokens = [...(run.prompts[request] ?? []), ...answer.slice(0, at)]
  await engine.clear()
  const logits = await engine.logitsAfter(tokens)
  await engine.goBackTo(tokens.length - 1)
  const alone = await engine.logitsAfter(tokens)
  const of = (token: number | undefined): number => logits.get(token ?? -1) ?? Number.NEGATIVE_INFINITY
  return {
    gap: Math.abs(of(answer[at]) - of(other.answers[request]?.[at])),
    rounding: largestDifference(logits, alone),
  }
}

/** What the three runs gave. */
interface Served {
  readonly sample: Sample
  /** Answers with kvtier that took another way at a tie. */
  readonly ties: readonly Tie[]
}

/** All three runs. Users go on from the first one's answers, so that all have the same prompts. */
async function serveThrice(model: LlamaModel, directory: string, signal: AbortSignal): Promise<Served> {
  const engine = await EngineCache.open(model, {
    tokens: CONTEXT_TOKENS,
    states: USERS.count,
    directory,
    flashAttention: false,
  })
  try {
    const { sequence, cache } = engine
    const adapt = (prompt: readonly number[]): Promise<void> => {
      signal.throwIfAborted()
      return sequence.adaptStateToTokens(prompt.slice(0, -1), false)
    }
    const reset = await serveUsers(model, sequence, () => {
      signal.throwIfAborted()
      return engine.clear()
    })
    const serve = async (): Promise<UsersRun> => {
      await engine.clear()
      return await serveUsers(model, sequence, adapt, undefined, reset.answers)
    }
    const reuse = await serve()
    cache.attach(sequence)
    const kvtier = await serve()
    cache.detach(sequence)
    const ties: Tie[] = []
    for (const [name, run] of [
      ["the engine's own reuse", reuse],
      ['kvtier', kvtier],
    ] as const) {
      for (const departure of departuresOf(name, reset, run)) {
        const tie = await tieOf(engine, reset, run, departure)
        checkTie(name, departure, tie)
        if (run === kvtier) ties.push(tie)
      }
    }
    return { sample: { reset: reset.evaluated, reuse: reuse.evaluated, kvtier: kvtier.evaluated }, ties }
  } finally {
    await engine.close()
  }
}

function answersOf(ties: readonly Tie[]): Row['parameters'] {
  const [first] = ties
  if (first === undefined) return { answersIdentical: true }
  return { answersIdentical: false, otherAtATie: ties.length, tieGap: first.gap, engineRounding: first.rounding }
}

async function open({ directory, quick, signal }: BenchContext): Promise<Group | Skipped> {
  const loaded = await openModel(quick ? QUICK_MODEL : MODEL.name, MODEL.dtype)
  if ('skipped' in loaded) return loaded
  try {
    const { sample, ties } = await serveThrice(loaded.model, directory, signal)
    const { count, turns, system, turn, answer } = USERS
    const parameters = { model: loaded.name, users: count, turns, system, turn, answer, sequences: 1 }
    return {
      rows: usersRows({ ...parameters, promptTokens: sample.reset ?? 0, ...answersOf(ties), deterministic: true }),
      measures: [() => sample],
      close: () => loaded.close(),
    }
  } catch (error) {
    await loaded.close()
    throw error
  }
}

/** See the file's first lines. */
export const MANY_USERS: readonly GroupSpec[] = [
  { suite: 'engine', name: 'many users of one sequence', rounds: 5, open },
]
