import { expect, test } from 'vitest'
import type { Binding, StorageHandle, StoreHandle } from '../../lib/native/binding.ts'
import type { Completions } from '../../lib/native/completions.ts'
import { closeHandles } from '../../lib/tiers/close.ts'
import { NO_TIER, type TierSlots } from '../../lib/tiers/types.ts'

/** Handles by name; a fake addon notes in which order their closing starts, and the test says when and how it ends. */
function rig() {
  const started: string[] = []
  const ends = new Map<string, (error?: Error) => void>()
  const handle = (name: string): StorageHandle => name as unknown as StorageHandle
  const binding = { startClose: (_: number, closed: unknown) => void started.push(String(closed)) }
  const completions = {
    call: (start: (ticket: number) => void) =>
      new Promise<void>((resolve, reject) => {
        start(1)
        ends.set(started.at(-1) ?? '', (error) => (error === undefined ? resolve() : reject(error)))
      }),
  }
  const tier = (name: string): TierSlots => ({ storage: handle(name), slotCount: 1, accounted: true, cuda: null })
  const close = (tiers: readonly TierSlots[], store: string | null) =>
    closeHandles(
      binding as unknown as Binding,
      completions as unknown as Completions,
      tiers,
      store as unknown as StoreHandle | null,
    )
  return { started, ends, tier, close }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('storages are closed all at once, and the store after the last of them', async () => {
  const { started, ends, tier, close } = rig()
  let closed = false
  const closing = close([tier('a'), NO_TIER, tier('b'), tier('c')], 'store').then(() => {
    closed = true
  })
  expect(started).toEqual(['a', 'b', 'c'])
  ends.get('c')?.()
  ends.get('a')?.()
  await turn()
  expect(started).toHaveLength(3)
  ends.get('b')?.()
  await turn()
  expect([started.at(-1), closed]).toEqual(['store', false])
  ends.get('store')?.()
  await closing
  expect(closed).toBe(true)
})

test('a storage that fails keeps neither the others nor the store open, and its error is thrown in the end', async () => {
  const { started, ends, tier, close } = rig()
  const closing = close([tier('a'), tier('b')], 'store').catch((error: unknown) => error)
  ends.get('b')?.(new Error('second'))
  await turn()
  ends.get('a')?.(new Error('first'))
  await turn()
  expect(started).toEqual(['a', 'b', 'store'])
  ends.get('store')?.(new Error('third'))
  expect(await closing).toMatchObject({ message: 'first' })
})

test('nothing open takes no call, and a store alone is closed', async () => {
  const { started, ends, close } = rig()
  await close([NO_TIER], null)
  expect(started).toEqual([])
  const closing = close([], 'store')
  await turn()
  ends.get('store')?.()
  await closing
  expect(started).toEqual(['store'])
})
