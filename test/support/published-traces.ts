/** The public traces that lie beside a checkout, for tests that compare with their published tables. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('../../../shared/traces/', import.meta.url))

/** Whether the traces are there; tests that need them are skipped, and counted, where they are not. */
export const haveTraces: boolean = existsSync(folder)

/** Part of such a test's name: why it may be skipped. */
export const NEEDS_TRACES = 'needs ../shared/traces'

/** Path of a public trace. */
export function tracePath(name: string): string {
  return `${folder}${name}.jsonl.gz`
}
