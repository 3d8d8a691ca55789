/**
 * Prompts as tokens, and what a model says after them. Shared with the engine tests: generic over the engine's types, which
 * only those have.
 */

/** What is needed of a model. */
export interface PromptModel<T extends number> {
  tokenize(text: string): T[]
}

/** How many tokens were evaluated since a meter's state was taken. */
export interface MeterDifference {
  readonly usedInputTokens: number
  readonly usedOutputTokens: number
}

/** What is needed of a sequence. */
export interface PromptSequence<T extends number> {
  readonly nextTokenIndex: number
  readonly tokenMeter: {
    getState(): MeterDifference
    diff(before: MeterDifference): MeterDifference
  }
  evaluate(tokens: T[], options?: { readonly temperature?: number }): AsyncIterable<T>
}

/** The logit of every token that may come next. */
export type Logits<T extends number = number> = ReadonlyMap<T, number>

const WORDS = 'a the of and to in is was he for it with as his on be at by had not are but from or have an they'.split(
  ' ',
)

/** The first `count` tokens of a text of everyday words that never repeats itself for long; a seed gives another text. */
export function promptOf<T extends number>(model: PromptModel<T>, count: number, seed = 1): T[] {
  let state = seed
  let text = ''
  for (let length = count; ; length *= 2) {
    while (text.length < length) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
      text += `${WORDS[(state >>> 16) % WORDS.length]} `
    }
    const tokens = model.tokenize(text)
    // Of a byte a token the first text is long enough.
    if (tokens.length >= count) return tokens.slice(0, count)
  }
}

/** The `count` likeliest tokens after what the sequence holds and `tokens`, one after the other. */
export async function greedy<T extends number>(
  sequence: PromptSequence<T>,
  tokens: readonly T[],
  count: number,
): Promise<T[]> {
  const answer: T[] = []
  for await (const token of sequence.evaluate([...tokens], { temperature: 0 })) {
    answer.push(token)
    if (answer.length === count) break
  }
  return answer
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
