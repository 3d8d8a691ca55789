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

export { greedy, largestDifference, promptOf } from '../../../bench/engine/prompts.js'

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

/** The token with the largest logit. */
export function likeliest(logits: Logits): Token {
  let best: [Token, number] | undefined
  for (const [token, value] of logits) if (best === undefined || value > best[1]) best = [token, value]
  if (best === undefined) throw new Error('There were no logits.')
  return best[0]
}
