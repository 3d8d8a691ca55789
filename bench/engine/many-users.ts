/** Tokens that a server evaluates for many users of one sequence: with nothing kept, with the engine's own reuse, with kvtier. */
import type { BenchContext, Group, GroupSpec, Row, Sample, Skipped } from '../harness/types.js'
import { EngineCache } from './cache.js'
import { type LlamaModel, openModel } from './engine.js'
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

/** Throws unless two runs gave the same answers. */
export function checkAnswers(name: string, run: UsersRun, other: UsersRun): void {
  const count = run.answers.length
  if (other.answers.length !== count)
    throw new Error(`${other.answers.length} of ${count} requests were answered with ${name}.`)
  for (const [request, answer] of other.answers.entries()) {
    const same = answer.length === run.answers[request]?.length
    if (same && answer.every((token, i) => token === run.answers[request]?.[i])) continue
    throw new Error(`Request ${request} was answered differently with ${name}.`)
  }
}

/** All three runs. */
async function serveThrice(model: LlamaModel, directory: string, signal: AbortSignal): Promise<Sample> {
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
    await engine.clear()
    const reuse = await serveUsers(model, sequence, adapt)
    checkAnswers("the engine's own reuse", reset, reuse)
    await engine.clear()
    cache.attach(sequence)
    const kvtier = await serveUsers(model, sequence, adapt)
    checkAnswers('kvtier', reset, kvtier)
    return { reset: reset.evaluated, reuse: reuse.evaluated, kvtier: kvtier.evaluated }
  } finally {
    await engine.close()
  }
}

async function open({ directory, quick, signal }: BenchContext): Promise<Group | Skipped> {
  const loaded = await openModel(quick ? QUICK_MODEL : MODEL.name, MODEL.dtype)
  if ('skipped' in loaded) return loaded
  try {
    const sample = await serveThrice(loaded.model, directory, signal)
    const { count, turns, system, turn, answer } = USERS
    const parameters = { model: loaded.name, users: count, turns, system, turn, answer, sequences: 1 }
    return {
      rows: usersRows({ ...parameters, promptTokens: sample.reset ?? 0, answersIdentical: true, deterministic: true }),
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
