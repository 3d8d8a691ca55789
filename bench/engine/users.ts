/** Many users of one server, as tokens: a shared system prompt, and turns of fixed lengths. */
import { greedy, type PromptModel, type PromptSequence, promptOf } from './prompts.js'

/** Tokens of the shared prompt, of a user's turn and of an answer; 31,104 prompt tokens in all. */
export const USERS = { count: 8, turns: 3, system: 1024, turn: 120, answer: 32 } as const

/** What a run of all users gave. */
export interface UsersRun {
  /** The prompts, in the order of the requests. */
  readonly prompts: readonly (readonly number[])[]
  /** Their answers. */
  readonly answers: readonly (readonly number[])[]
  /** Tokens of all prompts. */
  readonly promptTokens: number
  /** Tokens that the engine evaluated before the first token of an answer, by its own meter. */
  readonly evaluated: number
}

/**
 * Serves every user's turns round robin on one sequence.
 *
 * @param before - makes the sequence ready for a prompt: what a server would do there
 * @param asUser - called with the user's number before each request
 * @param said - the answers that users go on from, in the order of the requests; default: those that they were given
 */
export async function serveUsers<T extends number>(
  model: PromptModel<T>,
  sequence: PromptSequence<T>,
  before: (prompt: readonly T[]) => Promise<void>,
  asUser: (user: number) => void | Promise<void> = () => undefined,
  said: readonly (readonly T[])[] = [],
): Promise<UsersRun> {
  const system = promptOf(model, USERS.system, 99)
  const histories: T[][] = Array.from({ length: USERS.count }, () => [...system])
  const prompts: T[][] = []
  const answers: T[][] = []
  let promptTokens = 0
  let evaluated = 0
  for (let turn = 0; turn < USERS.turns; turn++) {
    for (const [user, history] of histories.entries()) {
      await asUser(user)
      history.push(...promptOf(model, USERS.turn, 1000 + turn * USERS.count + user))
      promptTokens += history.length
      prompts.push([...history])
      const meter = sequence.tokenMeter.getState()
      await before(history)
      const rest = history.slice(sequence.nextTokenIndex)
      const answer = await greedy(sequence, rest, USERS.answer)
      const { usedInputTokens, usedOutputTokens } = sequence.tokenMeter.diff(meter)
      // Beside the prompt, every token of the answer but the last was evaluated.
      evaluated += usedInputTokens + usedOutputTokens - (answer.length - 1)
      history.push(...(said[answers.length] ?? answer))
      answers.push(answer)
    }
  }
  return { prompts, answers, promptTokens, evaluated }
}
