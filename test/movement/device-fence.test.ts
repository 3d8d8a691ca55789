/** Points in a GPU's work, captured against a binding that is played. */
import { describe, expect, test } from 'vitest'
import { KvError } from '../../lib/errors.ts'
import type { MovementContext } from '../../lib/movement/context.ts'
import { captureFences, checkFences, type Fence, fence, waitForFence } from '../../lib/movement/fence.ts'
import type { TransferControl } from '../../lib/movement/transfer.ts'
import type { ExternalPointer } from '../../lib/native/binding.ts'
import { deferred } from '../support/deferred.ts'
import { errorOf } from '../support/expect-code.ts'

const HANDLE = new Uint8Array(64).fill(3)

/** An External, as the played binding reads it. */
const external = (pointer: Partial<ExternalPointer>): object => ({ pointer })

/** A context whose device memory lies on these GPUs, and the fences that were made. */
function play(ordinals: readonly number[], failure: KvError | null = null) {
  const made: unknown[][] = []
  const events: unknown[] = []
  const context = {
    binding: {
      makeFence(...args: unknown[]) {
        if (failure !== null) throw failure
        made.push(args)
        return { made: made.length }
      },
      readExternal(value: { pointer?: Partial<ExternalPointer> }): ExternalPointer {
        if (value.pointer === undefined) throw new KvError('ERR_KV_INVALID_TYPE', 'no External')
        return { kind: 'event', address: 7n, bytes: 0, ordinal: -1, ...value.pointer }
      },
    },
    device: { ordinals, failure: null },
    events: { emit: (...args: unknown[]) => events.push(args) },
    groups: [],
  } as unknown as MovementContext
  const capture = (...fences: Fence[]) => captureFences(context, 'after', checkFences('after', fences))
  return { context, made, events, capture }
}

const control = {
  code: null,
  wait: (promise: Promise<unknown>) => promise.then(() => true),
} as unknown as TransferControl

describe('a fence of a GPU', () => {
  test('is captured in the call, on the GPU of the manager', () => {
    const { made, capture } = play([2])
    const captured = capture(fence.event(5n), fence.stream(6n), fence.ipc(HANDLE), fence.quiet())
    expect(made).toEqual([
      [2, 'event', 5n],
      [2, 'stream', 6n],
      [2, 'ipc', HANDLE],
    ])
    expect(captured).toEqual({ promises: [], handles: [{ made: 1 }, { made: 2 }, { made: 3 }], failure: null })
  })

  test('is captured on the GPU that it names, or its External', () => {
    const { made, capture } = play([0])
    capture(fence.event(5n, { ordinal: 1 }), fence.stream(6n, { ordinal: 3 }), fence.ipc(HANDLE, { ordinal: 4 }))
    capture(fence.event(external({ ordinal: 2 })), fence.event(external({ ordinal: 2 }), { ordinal: 5 }))
    capture(fence.stream(external({ kind: 'stream', address: 8n })))
    expect(made.map(([ordinal]) => ordinal)).toEqual([1, 3, 4, 2, 5, 0])
    expect(made.at(-1)).toEqual([0, 'stream', 8n])
  })

  test('of several GPUs: an event is captured once, the default stream on each, another stream must say where', () => {
    const { made, capture } = play([1, 0])
    capture(fence.event(5n))
    capture(fence.ipc(HANDLE))
    expect(made.splice(0).map(([ordinal]) => ordinal)).toEqual([1, 1])
    for (const stream of [0n, 1n, 2n]) capture(fence.stream(stream))
    expect(made.splice(0)).toEqual([0n, 1n, 2n].flatMap((stream) => [1, 0].map((at) => [at, 'stream', stream])))
    expect(errorOf('ERR_KV_INVALID_VALUE', () => capture(fence.stream(6n))).message).toContain('after.ordinal')
    capture(fence.stream(6n, { ordinal: 0 }), fence.stream(external({ kind: 'stream', ordinal: 1 })))
    expect(made.map(([ordinal]) => ordinal)).toEqual([0, 1])
  })

  test('of a manager without a GPU is refused, with what to do', () => {
    const { capture } = play([])
    for (const each of [fence.event(5n), fence.stream(0n), fence.ipc(HANDLE)]) {
      expect(errorOf('ERR_KV_UNSUPPORTED', () => capture(each)).message).toMatch(/fence\.promise.*fence\.quiet/)
    }
  })

  test('that is none is the caller’s mistake', () => {
    const { capture } = play([0])
    const wrong: [string, unknown][] = [
      ['ERR_KV_INVALID_TYPE', { kind: 'event' }],
      ['ERR_KV_INVALID_TYPE', { kind: 'event', event: 5 }],
      ['ERR_KV_INVALID_TYPE', { kind: 'event', event: null }],
      ['ERR_KV_INVALID_VALUE', { kind: 'event', event: 0n }],
      ['ERR_KV_INVALID_VALUE', { kind: 'event', event: -1n }],
      ['ERR_KV_INVALID_VALUE', { kind: 'stream', stream: 2n ** 64n }],
      ['ERR_KV_INVALID_VALUE', { kind: 'stream', stream: 5n, ordinal: -1 }],
      ['ERR_KV_INVALID_TYPE', { kind: 'stream', stream: 5n, ordinal: '0' }],
      ['ERR_KV_INVALID_VALUE', { kind: 'stream', stream: 5n, device: 0 }],
      ['ERR_KV_INVALID_VALUE', { kind: 'stream', event: 5n }],
      ['ERR_KV_INVALID_TYPE', { kind: 'ipc', handle: 'x' }],
      ['ERR_KV_INVALID_VALUE', { kind: 'ipc', handle: new Uint8Array(63) }],
      ['ERR_KV_INVALID_TYPE', fence.event({})],
      ['ERR_KV_INVALID_TYPE', fence.event(external({ kind: 'stream' }))],
      ['ERR_KV_INVALID_TYPE', fence.stream(external({ kind: 'memory' }))],
    ]
    for (const [code, value] of wrong) errorOf(code as 'ERR_KV_INVALID_TYPE', () => capture(value as Fence))
    const refused = play([0], new KvError('ERR_KV_INVALID_VALUE', 'no event'))
    errorOf('ERR_KV_INVALID_VALUE', () => refused.capture(fence.event(5n)))
  })

  test('that the GPU failed to capture makes every block a miss; a lost GPU is told once', async () => {
    const lost = play([0], new KvError('ERR_KV_DEVICE_LOST', 'the GPU fell off the bus'))
    const captured = lost.capture(fence.event(5n), fence.event(6n))
    const failure = { code: 'ERR_KV_DEVICE_LOST', message: 'the GPU fell off the bus' }
    expect(await waitForFence(control, captured)).toEqual(failure)
    expect(lost.events).toEqual([['tierFailed', { tier: 'device', ...failure }]])
    expect(lost.context.device.failure).toEqual(failure)
    const failed = play([0], new KvError('ERR_KV_IO', 'unknown error'))
    expect(await waitForFence(control, failed.capture(fence.event(5n)))).toMatchObject({ code: 'ERR_KV_IO' })
    expect([failed.events, failed.context.device.failure]).toEqual([[], null])
  })
})

describe('several fences', () => {
  test('must all have passed', async () => {
    const { made, capture } = play([0])
    const resolve = deferred()
    const late = resolve.promise
    const captured = capture(fence.event(5n), fence.promise(late), fence.promise(Promise.resolve()))
    expect([made.length, captured.promises.length]).toEqual([1, 2])
    let passed = false
    const waiting = waitForFence(control, captured).then((failure) => {
      passed = true
      return failure
    })
    await new Promise((turn) => setImmediate(turn))
    expect(passed).toBe(false)
    resolve.resolve()
    expect(await waiting).toBeNull()
    const rejected = capture(fence.quiet(), fence.promise(Promise.reject(new Error('no'))))
    expect(await waitForFence(control, rejected)).toMatchObject({ code: 'ERR_KV_ABORTED' })
  })

  test('are at least one, and each is checked by its place before any is captured', () => {
    const { made } = play([0])
    errorOf('ERR_KV_INVALID_VALUE', () => checkFences('after', []))
    const error = errorOf('ERR_KV_INVALID_TYPE', () => checkFences('after', [fence.event(1n), 'quiet']))
    expect([error.message, made]).toEqual([expect.stringContaining('after[1]'), []])
    expect(checkFences('after', fence.quiet())).toEqual([fence.quiet()])
  })
})
