import { expect, test } from 'vitest'
import { AdapterWatch } from '../../../lib/connectors/node-llama-cpp/adapter-watch.ts'
import { fakeContext } from './fake-sequence.ts'

test('adapters that were set before anybody listened are told at once, and once', async () => {
  const context = fakeContext()
  const watch = new AdapterWatch(context)
  await context._setLoras([])
  let told = 0
  watch.onChange(() => told++)
  expect(told).toBe(1)
  await context._setLoras([])
  expect(told).toBe(1)
  watch.close()
})

test('two watches of one context both tell, and whichever is closed first leaves the other', async () => {
  for (const closedFirst of [0, 1]) {
    const context = fakeContext()
    const watches = [new AdapterWatch(context), new AdapterWatch(context)]
    const told: number[] = []
    watches.forEach((watch, i) => {
      watch.onChange(() => told.push(i))
    })
    watches[closedFirst]?.close()
    await context._setLoras([])
    expect(told).toEqual([1 - closedFirst])
    watches[1 - closedFirst]?.close()
  }
})

test('a context of an engine that has no adapters is left as it is', () => {
  const context = { ...fakeContext(), _setLoras: undefined }
  const watch = new AdapterWatch(context as never)
  expect(context._setLoras).toBeUndefined()
  watch.close()
})
