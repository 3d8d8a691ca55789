/** The check of a prompt that a caller hands over. */
import { invalidType, KvError } from '../../errors.js'

/** A token is a whole number below this. */
const TOKEN_END = 2 ** 31

/** Throws ERR_KV_INVALID_TYPE or ERR_KV_INVALID_TOKEN unless `tokens` is an array of tokens. */
export function checkTokens(tokens: unknown): asserts tokens is readonly number[] {
  if (!Array.isArray(tokens)) invalidType('tokens', 'an array of tokens', tokens)
  for (let i = 0; i < tokens.length; i++) {
    const token: unknown = tokens[i]
    if (Number.isInteger(token) && (token as number) >= 0 && (token as number) < TOKEN_END) continue
    throw new KvError(
      'ERR_KV_INVALID_TOKEN',
      `tokens[${i}] must be a whole number from 0 to ${TOKEN_END - 1}, got ${String(token)}.`,
    )
  }
}
