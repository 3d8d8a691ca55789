/** What goes on while a disk does not answer: everything that does not need it, on the bare binding. */
import { beforeAll, describe, expect, test } from 'vitest'

import { binding, type StorageHandle } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { CODE } from '../../lib/native/generated.js'
import { errorOf } from '../support/expect-code.js'
import {
  ARRIVED,
  all,
  close,
  missed,
  numbers,
  openEngine,
  openMemory,
  openTiers,
  request,
  SLOTS,
  startBatch,
  store,
  testing,
  transfer,
} from './harness.ts'

beforeAll(() => openEngine())

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

async function untilHeld(count: number): Promise<void> {
  while (testing().heldIo() < count) await turn()
}

function hash(): Promise<Uint8Array> {
  return completions().call<Uint8Array>((ticket) =>
    binding.startHashTokens(ticket, new Uint8Array(32), new Uint32Array(64), 16, new Uint8Array(0)),
  )
}

function erase(disk: StorageHandle, slot: number): Promise<undefined> {
  return completions().call<undefined>((ticket) => binding.startErase(ticket, disk, new Uint32Array([slot])))
}

describe('while a disk does not answer', () => {
  test('its loads miss, and copies, hashing and opening go on', async () => {
    const tiers = await openTiers()
    await store(tiers, numbers(SLOTS))
    testing().holdIo()
    const loads = numbers(SLOTS).map((block) =>
      startBatch((ticket) => binding.startTransfer(ticket, request('slabToMemory', tiers.disk, tiers.device, [block]))),
    )
    await untilHeld(1)
    for (const { ticket } of loads) binding.cancel(ticket, CODE.ERR_KV_DEADLINE)
    for (const { done } of loads) expect((await done).outcomes).toEqual([missed('ERR_KV_DEADLINE')])
    const copied = await transfer('memoryToMemory', tiers.host, tiers.device, numbers(4))
    expect(copied.outcomes).toEqual(all(4, ARRIVED))
    expect(await hash()).toHaveLength(4 * 32)
    await close(await openMemory())
    expect(testing().heldIo()).toBeGreaterThan(0)
    testing().releaseIo()
    for (const { done } of loads) await (await done).settled
  })

  test('an erase holds up neither hashing nor closing memory', async () => {
    const tiers = await openTiers()
    testing().holdIo()
    const erasing = erase(tiers.disk, 3)
    await untilHeld(1)
    expect(await hash()).toHaveLength(4 * 32)
    await close(tiers.device)
    expect(testing().heldIo()).toBe(1)
    testing().releaseIo()
    await erasing
  })

  test('a sync holds up neither opening memory nor looking at the machine', async () => {
    const tiers = await openTiers()
    testing().holdIo()
    const syncing = completions().call<undefined>((ticket) => binding.startSync(ticket, tiers.disk))
    await untilHeld(1)
    await close(await openMemory())
    expect(await completions().call((ticket) => binding.startProbe(ticket, ''))).toMatchObject({ directory: null })
    expect(testing().heldIo()).toBe(1)
    testing().releaseIo()
    await syncing
  })

  test('calls are refused with ERR_KV_QUEUE_FULL when too many wait, and taken again later', async () => {
    const tiers = await openTiers()
    testing().holdIo()
    let open = 0
    const start = (): void => {
      completions().batch((ticket) => binding.startErase(ticket, tiers.disk, new Uint32Array([1])), {
        onDone: () => undefined,
        onSettled: () => {
          open--
        },
      })
      open++
    }
    while (open < 20_000) {
      try {
        start()
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_KV_QUEUE_FULL' })
        break
      }
    }
    expect(open).toBe(16_384)
    errorOf('ERR_KV_QUEUE_FULL', () => binding.startProbe(0xffffffff, ''))
    testing().releaseIo()
    while (open > 0) await turn()
    await erase(tiers.disk, 2)
  })
})
