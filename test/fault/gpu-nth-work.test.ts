/**
 * Fails exactly the n-th piece of work that a whole life of a manager queues on a GPU, when the GPU comes to it: every call
 * has succeeded by then, and the GPU is lost with the work (CUDA's 719, a failed launch). In a process of its own: a GPU that
 * was lost is made ready again only where nothing keeps its context, and failed calls of gpu-nth-call.test.ts may.
 */
import { expect, test } from 'vitest'
import { ALL, expectWorks, failEach, LONG, live, STEP, UNUSED } from '../support/gpu-lives.ts'
import { testing } from '../support/io.ts'
import { withDirectory } from '../support/manager.ts'

test('no queued work that fails does more than cost hits', { timeout: 300_000 }, async () => {
  const plan = (n: number): void => testing.simFailWork(n, 719)
  const run = () => withDirectory((directory) => live(UNUSED, null, directory))
  expect(await failEach(plan, LONG ? 1 : 5 * STEP, ALL, run)).toBeGreaterThan(10 / STEP)
  await expectWorks(UNUSED)
})
