/** Tickets, decoding and manners of the completions, against a binding that is played. */
import { describe, expect, test } from 'vitest'

import { KvError } from '../../lib/errors.js'
import type { Binding, BindingSettings } from '../../lib/native/binding.js'
import { Completions } from '../../lib/native/completions.js'
import { CODE } from '../../lib/native/generated.js'

const DONE = 1
const SETTLED = 2
const READY = 4

interface Played {
  readonly completions: Completions
  readonly cancelled: [number, number][]
  readonly settings: BindingSettings
  /** Delivers records as the addon does: ticket, phase, code, outcomes. */
  deliver(...records: [number, number, number, number[]][]): void
}

function play(
  firstTicket?: number,
  results: Record<number, unknown> = {},
  messages: Record<number, string> = {},
): Played {
  let settings: BindingSettings | null = null
  const cancelled: [number, number][] = []
  const native = {
    initialize: (given: BindingSettings) => {
      settings = given
    },
    cancel: (ticket: number, code: number) => {
      cancelled.push([ticket, code])
    },
    takeResult: (ticket: number) => results[ticket],
    takeMessage: (ticket: number) => messages[ticket] ?? '',
  }
  const completions = new Completions(native as unknown as Binding, firstTicket)
  if (settings === null) throw new Error('initialize was not called')
  const given: BindingSettings = settings
  return {
    completions,
    cancelled,
    settings: given,
    deliver(...records) {
      const words = records.flatMap(([ticket, phase, code, outcomes]) => [
        ticket,
        phase,
        code,
        outcomes.length,
        ...Array.from({ length: Math.ceil(outcomes.length / 2) }, (_, i) => {
          return ((outcomes[2 * i] ?? 0) | ((outcomes[2 * i + 1] ?? 0) << 16)) >>> 0
        }),
      ])
      given.completions.set(words)
      given.settle(words.length)
    },
  }
}

function listen(played: Played): { ticket: number; heard: string[] } {
  const heard: string[] = []
  const ticket = played.completions.batch(() => undefined, {
    onReady: () => heard.push('ready'),
    onDone: (outcomes, code, message) => heard.push(`done ${code} [${outcomes.join()}] ${message}`.trim()),
    onSettled: () => heard.push('settled'),
  })
  return { ticket, heard }
}

describe('tickets', () => {
  test('wrap after 2^32 - 1 and skip 0', () => {
    const played = play(0xfffffffe)
    expect([listen(played), listen(played), listen(played)].map(({ ticket }) => ticket)).toEqual([
      0xfffffffe, 0xffffffff, 1,
    ])
  })

  test('skip those that have not settled', () => {
    const played = play(0xffffffff)
    const tickets = [listen(played), listen(played), listen(played)].map(({ ticket }) => ticket)
    expect(tickets).toEqual([0xffffffff, 1, 2])
    played.deliver([1, DONE | SETTLED, 0, []])
    const wrapped = play(1)
    listen(wrapped)
    listen(wrapped)
    expect(wrapped.completions.pending).toBe(2)
    expect(played.completions.pending).toBe(2)
  })

  test('of a start that throws are free again', () => {
    const played = play()
    const failing = (): number =>
      played.completions.batch(
        () => {
          throw new RangeError('no')
        },
        { onDone: () => undefined, onSettled: () => undefined },
      )
    expect(failing).toThrow(RangeError)
    expect(played.completions.pending).toBe(0)
  })
})

describe('reports', () => {
  test('reach their batch, done before settled', () => {
    const played = play(1, {}, { 1: 'why' })
    const one = listen(played)
    const two = listen(played)
    played.deliver([2, DONE, 0, [512, 512, 512]], [1, DONE | SETTLED, CODE.ERR_KV_ABORTED, [CODE.ERR_KV_ABORTED]])
    expect(two.heard).toEqual(['done 0 [512,512,512]'])
    expect(one.heard).toEqual([`done ${CODE.ERR_KV_ABORTED} [${CODE.ERR_KV_ABORTED}] why`, 'settled'])
    played.deliver([2, SETTLED, 0, []])
    expect(two.heard.at(-1)).toBe('settled')
    expect(played.completions.pending).toBe(0)
  })

  test('that it is ready come before it is done, alone or in the same record', () => {
    const played = play()
    const one = listen(played)
    const two = listen(played)
    played.deliver([one.ticket, READY, 0, []], [two.ticket, READY | DONE | SETTLED, 0, [512]])
    expect([one.heard, two.heard]).toEqual([['ready'], ['ready', 'done 0 [512]', 'settled']])
    played.deliver([one.ticket, DONE | SETTLED, 0, []])
    expect(one.heard).toEqual(['ready', 'done 0 []', 'settled'])
    const silent = played.completions.batch(() => undefined, { onDone: () => undefined, onSettled: () => undefined })
    played.deliver([silent, READY, 0, []], [silent, DONE | SETTLED, 0, []])
    expect(played.completions.pending).toBe(0)
  })

  test('of unknown tickets are passed over', () => {
    const played = play()
    const one = listen(played)
    played.deliver([99, DONE | SETTLED, 0, [1, 2, 3]], [one.ticket, DONE | SETTLED, 0, []])
    expect(one.heard).toEqual(['done 0 []', 'settled'])
  })

  test('of a handler that throws do not stop the others', async () => {
    const played = play()
    played.completions.batch(() => undefined, {
      onDone: () => {
        throw new Error('a handler failed')
      },
      onSettled: () => undefined,
    })
    const next = listen(played)
    const uncaught = new Promise<unknown>((resolve) => {
      const before = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      process.once('uncaughtException', (error) => {
        for (const listener of before) process.on('uncaughtException', listener)
        resolve(error)
      })
    })
    played.deliver([1, DONE | SETTLED, 0, []], [next.ticket, DONE | SETTLED, 0, []])
    expect(next.heard).toEqual(['done 0 []', 'settled'])
    expect(await uncaught).toMatchObject({ message: 'a handler failed' })
  })
})

describe('calls', () => {
  test('give the result that was reported', async () => {
    const played = play(5, { 5: 'the result' })
    const result = played.completions.call<string>(() => undefined)
    played.deliver([5, DONE | SETTLED, 0, []])
    expect(await result).toBe('the result')
  })

  test('fail with the code and message that were reported', async () => {
    const played = play(5, {}, { 5: 'the disk is gone' })
    const result = played.completions.call(() => undefined)
    played.deliver([5, DONE | SETTLED, CODE.ERR_KV_IO, []])
    const error = await result.then(
      () => null,
      (reason: unknown) => reason,
    )
    expect(error).toBeInstanceOf(KvError)
    expect(error).toMatchObject({ code: 'ERR_KV_IO', message: 'the disk is gone' })
  })

  test('fail with what the start threw', async () => {
    const played = play()
    const result = played.completions.call(() => {
      throw new RangeError('no')
    })
    await expect(result).rejects.toThrow(RangeError)
    expect(played.completions.pending).toBe(0)
  })
})

describe('cancel', () => {
  test('passes the number of the code for a batch that has not settled', () => {
    const played = play()
    const one = listen(played)
    played.completions.cancel(one.ticket, 'ERR_KV_DEADLINE')
    expect(played.cancelled).toEqual([[one.ticket, CODE.ERR_KV_DEADLINE]])
    played.deliver([one.ticket, DONE | SETTLED, 0, []])
    played.completions.cancel(one.ticket, 'ERR_KV_DEADLINE')
    expect(played.cancelled.length).toBe(1)
  })
})

test('errors of the addon are KvError', () => {
  const error = play().settings.makeError('ERR_KV_LOCKED', 'somebody has it')
  expect(error).toBeInstanceOf(KvError)
  expect(error).toMatchObject({ code: 'ERR_KV_LOCKED', message: 'somebody has it' })
})
