/** Runs something that must fail and gives the error, so that a test can look at its code and message. */
import { expect } from 'vitest'

import type { ErrorCode } from '../../lib/errors.js'

/** The error that `run` throws, after checking its code. */
export function errorOf(code: ErrorCode, run: () => unknown): Error {
  let caught: unknown
  try {
    run()
  } catch (error) {
    caught = error
  }
  expect(caught, 'an error was expected').toBeInstanceOf(Error)
  expect(caught).toMatchObject({ name: 'KvError', code })
  return caught as Error
}
