/** node-llama-cpp as the tests use it: on the CPU, never compiled or downloaded, one engine a test file. */
import {
  getLlama,
  type Llama,
  type LlamaContext,
  type LlamaContextSequence,
  LlamaLogLevel,
  type LlamaModel,
  type Token,
} from 'node-llama-cpp'
import { onTestFinished } from 'vitest'

/** The logit of every token that may come next. */
export type Logits = ReadonlyMap<Token, number>

let engine: Promise<Llama> | undefined

/** This process's engine. */
export function llama(): Promise<Llama> {
  engine ??= getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
  })
  return engine
}

/** Loads a model from its file. */
export async function loadModel(modelPath: string): Promise<LlamaModel> {
  return (await llama()).loadModel({ modelPath })
}

/** A context of 2,048 tokens a sequence, computed by one thread in batches of 512 where nothing else is asked for. */
export async function createContext(
  model: LlamaModel,
  options: Parameters<LlamaModel['createContext']>[0] = {},
): Promise<LlamaContext> {
  const context = await model.createContext({ contextSize: 2048, sequences: 1, batchSize: 512, threads: 1, ...options })
  // A context that is collected without this keeps its model from being disposed.
  onTestFinished(() => context.dispose())
  return context
}

/** The first `count` tokens of a text of everyday words that never repeats itself for long; a seed gives another text. */
export function promptOf(model: LlamaModel, count: number, seed = 1): Token[] {
  const words =
    'a the of and to in is was he for it with as his on be at by had not are but from or have an they'.split(' ')
  let state = seed
  let text = ''
  while (text.length < count) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    text += `${words[(state >>> 16) % words.length]} `
  }
  return model.tokenize(text).slice(0, count)
}

/** The `count` likeliest tokens after what the sequence holds and `tokens`, one after the other. */
export async function greedy(
  sequence: LlamaContextSequence,
  tokens: readonly Token[],
  count: number,
): Promise<Token[]> {
  const answer: Token[] = []
  for await (const token of sequence.evaluate([...tokens], { temperature: 0 })) {
    answer.push(token)
    if (answer.length === count) break
  }
  return answer
}

/** The logits after what the sequence holds and `tokens`; the last token is computed in a batch of its own. */
export async function logitsAfter(sequence: LlamaContextSequence, tokens: readonly Token[]): Promise<Logits> {
  const last = tokens.at(-1)
  if (last === undefined) throw new Error('Logits come after a token.')
  if (tokens.length > 1) await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1))
  const [output] = await sequence.controlledEvaluate([[last, { generateNext: { logits: true } }]])
  const logits = output?.next.logits
  if (logits === undefined) throw new Error('The engine gave no logits.')
  return logits
}

/** The largest difference between the logits of a token; infinite where one has tokens that the other has not. */
export function largestDifference(a: Logits, b: Logits): number {
  let largest = a.size === b.size ? 0 : Number.POSITIVE_INFINITY
  for (const [token, value] of a) {
    const difference = Math.abs(value - (b.get(token) ?? Number.NaN))
    largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(largest, difference)
  }
  return largest
}

/** The token with the largest logit. */
export function likeliest(logits: Logits): Token {
  let best: [Token, number] | undefined
  for (const [token, value] of logits) if (best === undefined || value > best[1]) best = [token, value]
  if (best === undefined) throw new Error('There were no logits.')
  return best[0]
}
