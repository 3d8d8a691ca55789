import { expect, test } from 'vitest'
import type { EngineContext } from '../../../lib/connectors/node-llama-cpp/engine.ts'
import { keepingContext } from '../../../lib/connectors/node-llama-cpp/keep-context.ts'

class FakeContext {
  disposed = false
  async dispose(): Promise<void> {
    this.disposed = true
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

test('a disposal waits for all work that runs, and what begins after it is refused', async () => {
  const fake = new FakeContext()
  const context = fake as unknown as EngineContext
  const [first, second] = [deferred(), deferred()]
  const works = [keepingContext(context, () => first.promise), keepingContext(context, () => second.promise)]
  const disposing = context.dispose()
  await expect(keepingContext(context, async () => undefined)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
  first.resolve()
  await works[0]
  expect(context.disposed).toBe(false)
  second.resolve()
  await disposing
  expect(context.disposed).toBe(true)
  await expect(keepingContext(context, async () => undefined)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
  expect(Object.hasOwn(fake, 'dispose')).toBe(false)
})

test("work that fails says why, and the context's own method is there again", async () => {
  const fake = new FakeContext()
  const context = fake as unknown as EngineContext
  const failing = keepingContext(context, () => Promise.reject(new Error('no')))
  expect(Object.hasOwn(fake, 'dispose')).toBe(true)
  await expect(failing).rejects.toThrow('no')
  expect(Object.hasOwn(fake, 'dispose')).toBe(false)
  await context.dispose()
  expect(context.disposed).toBe(true)
})
