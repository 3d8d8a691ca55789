/** Writes what a vitest run passed, failed and skipped, with the reason of each skip, for the last line of a test run. */
import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node'

/** One test that did not run. */
interface Skip {
  readonly name: string
  readonly reason: string
}

/** Counts by vitest's own objects, so that nothing is read from what it prints. */
export class ResultsReporter implements Reporter {
  readonly #file: string

  /** @param file - where the counts go, as JSON */
  constructor(file: string) {
    this.#file = file
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    let passed = 0
    let failed = unhandledErrors.length
    let injected = 0
    const skipped: Skip[] = []
    for (const module of modules) {
      failed += module.errors().length
      for (const suite of module.children.allSuites()) failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const state = test.result().state
        injected += Number((test.meta() as { failuresInjected?: number }).failuresInjected ?? 0)
        if (state === 'passed') passed += 1
        else if (state === 'skipped')
          skipped.push({ name: `${module.relativeModuleId}: ${test.fullName}`, reason: reasonOf(test) })
        else failed += 1
      }
    }
    writeFileSync(this.#file, JSON.stringify({ passed, failed, skipped, injected }))
  }
}

function reasonOf(test: TestCase): string {
  const result = test.result()
  if (result.state === 'skipped' && result.note !== undefined) return result.note
  return test.options.mode === 'todo' ? 'not written yet' : 'its condition does not hold here'
}
