import { describe, expect, test } from 'vitest'
import { TrackedSequence } from '../../../lib/connectors/node-llama-cpp/tracked-sequence.ts'
import { FakeSequence } from './fake-sequence.ts'

function numbers(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => from + i)
}

function track(sequence: FakeSequence): { tracked: TrackedSequence; idle: () => number; prefills: number[] } {
  let idle = 0
  const prefills: number[] = []
  const tracked = new TrackedSequence(sequence, {
    onIdle: () => {
      idle++
    },
    onEmpty: () => undefined,
    onPrefill: (tokens) => prefills.push(tokens),
    adapt: null,
  })
  return { tracked, idle: () => idle, prefills }
}

describe('which tokens may be stored', () => {
  test('are all that were evaluated under watch', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    expect(tracked.storable).toBe(0)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    await sequence.controlledEvaluate(numbers(5))
    expect(tracked.storable).toBe(15)
  })

  test('are none where tokens were there before', async () => {
    const sequence = new FakeSequence()
    sequence.contextTokens = numbers(10)
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(5))
    expect(tracked.storable).toBe(0)
    tracked.trust()
    expect(tracked.storable).toBe(15)
  })

  test('are those before a range that was erased in the middle, after the next evaluation', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    await sequence.eraseContextTokenRanges([{ start: 6, end: 4 }])
    expect(tracked.storable).toBe(0)
    await sequence.controlledEvaluate([1])
    expect(tracked.storable).toBe(4)
  })

  test('stay so when less than the doubtful tokens is cut off, and are all again when they are gone', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(20))
    await sequence.eraseContextTokenRanges([{ start: 4, end: 6 }])
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(1))
    await sequence.eraseContextTokenRanges([{ start: 10, end: 19 }])
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(1))
    expect(tracked.storable).toBe(4)
    await sequence.eraseContextTokenRanges([{ start: 4, end: 11 }])
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(7))
    expect(tracked.storable).toBe(11)
  })

  test('are those that were there when somebody else began to evaluate, less what is cut off, until it is said', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    tracked.disown()
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    expect([tracked.storable, tracked.isOwn]).toEqual([10, false])
    await sequence.eraseContextTokenRanges([{ start: 6, end: 20 }])
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    tracked.disown()
    expect([tracked.storable, tracked.isOwn]).toEqual([6, false])
    await sequence.clearHistory()
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(3))
    expect([tracked.storable, tracked.isOwn]).toEqual([0, false])
    tracked.own()
    expect([tracked.storable, tracked.isOwn]).toEqual([3, true])
  })

  test('are not affected by ranges that have no tokens', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    await sequence.eraseContextTokenRanges([
      { start: 3, end: 3 },
      { start: 10, end: 20 },
    ])
    expect(tracked.storable).toBe(10)
  })

  test('are none of a state that somebody else loaded, until the sequence is empty', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    sequence.loads = numbers(10)
    await sequence.loadStateFromFile()
    expect(tracked.storable).toBe(0)
    await sequence.clearHistory()
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(3))
    expect(tracked.storable).toBe(3)
  })

  test('are none of a state that somebody loaded while the sequence was being emptied', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    sequence.loads = numbers(8)
    const gate = sequence.hold('load')
    const loading = sequence.loadStateFromFile()
    await sequence.clearHistory()
    gate.open()
    await loading
    expect(sequence.nextTokenIndex).toBe(8)
    expect(tracked.storable).toBe(0)
  })

  test('are none of a state that somebody loaded while we were loading', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    sequence.loads = numbers(8)
    const gate = sequence.hold('load')
    const ours = tracked.load('path', 8)
    await gate.reached
    const foreign = sequence.loadStateFromFile()
    gate.open()
    await Promise.all([ours, foreign])
    expect(tracked.storable).toBe(0)
  })

  test('are those before a cut at the end where tokens came while it waited', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    const gate = sequence.hold('erase')
    const cut = sequence.eraseContextTokenRanges([{ start: 4, end: 10 }])
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(6, 10))
    gate.open()
    await cut
    expect(sequence.contextTokens).toEqual([...numbers(4), ...numbers(6, 10)])
    await sequence.controlledEvaluate([1])
    expect(tracked.storable).toBe(4)
  })

  test('are none after a range in the middle was erased and nothing was evaluated since', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    await sequence.eraseContextTokenRanges([{ start: 4, end: 6 }])
    await sequence.evaluateWithoutGeneratingNewTokens([])
    await sequence.controlledEvaluate([])
    expect(tracked.storable).toBe(0)
  })

  test('are none once the hooks are gone, for nobody sees what becomes of the sequence', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    const { epoch } = tracked
    tracked.release()
    await sequence.eraseContextTokenRanges([{ start: 4, end: 6 }])
    expect(tracked.storable).toBe(0)
    expect(tracked.epoch).not.toBe(epoch)
  })

  test('are all of a state that we loaded', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10, 50))
    sequence.loads = numbers(8)
    await tracked.load('path', 8)
    expect(tracked.storable).toBe(8)
    expect(sequence.contextTokens).toEqual(numbers(8))
  })
})

describe('a load that fails', () => {
  test.each([
    ['the engine refuses', null],
    ['gives another number of tokens', numbers(7)],
  ])('because %s leaves an empty sequence', async (_, loads) => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    sequence.loads = loads
    await expect(tracked.load('path', 8)).rejects.toThrow()
    expect(sequence.nextTokenIndex).toBe(0)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(4))
    expect(tracked.storable).toBe(4)
  })
})

describe('an evaluation', () => {
  test('runs from its first step until its iterator ends, and then the sequence is idle', async () => {
    const sequence = new FakeSequence()
    const { tracked, idle, prefills } = track(sequence)
    const iterator = sequence.evaluateWithMetadata(numbers(40))
    expect(tracked.evaluating).toBe(false)
    await iterator.next()
    await iterator.next()
    expect(tracked.evaluating).toBe(true)
    expect(idle()).toBe(0)
    await iterator.return()
    expect(tracked.evaluating).toBe(false)
    expect(idle()).toBe(1)
    await iterator.return()
    expect(idle()).toBe(1)
    expect(prefills).toEqual([40])
  })

  test('that was left between two tokens is over when the next one begins', async () => {
    const sequence = new FakeSequence()
    const { tracked, idle } = track(sequence)
    const left = sequence.evaluateWithMetadata(numbers(40))
    await left.next()
    expect(tracked.busy).toBe(false)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(5))
    expect(idle()).toBe(1)
    expect(tracked.evaluating).toBe(false)
    await left.next()
    expect(tracked.evaluating).toBe(true)
  })

  test('is busy while a step runs, and not between two', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    const iterator = sequence.evaluateWithMetadata(numbers(40))
    const step = iterator.next()
    expect(tracked.busy).toBe(true)
    await step
    expect(tracked.busy).toBe(false)
  })

  test('that was never begun is none', async () => {
    const sequence = new FakeSequence()
    const { idle } = track(sequence)
    await sequence.evaluateWithMetadata(numbers(40)).return()
    expect(idle()).toBe(0)
  })

  test('that fails is over', async () => {
    const sequence = new FakeSequence()
    sequence.controlledEvaluate = () => Promise.reject(new Error('out of cells'))
    const { tracked, idle } = track(sequence)
    await expect(sequence.controlledEvaluate([1])).rejects.toThrow('out of cells')
    expect(tracked.evaluating).toBe(false)
    expect(idle()).toBe(1)
  })
})

describe('hooks', () => {
  test('are gone after release, and what hooked the method before is there again', async () => {
    const sequence = new FakeSequence()
    const mine = async (): Promise<void> => undefined
    sequence.evaluateWithoutGeneratingNewTokens = mine
    const { tracked } = track(sequence)
    expect(sequence.evaluateWithoutGeneratingNewTokens).not.toBe(mine)
    tracked.release()
    expect(sequence.evaluateWithoutGeneratingNewTokens).toBe(mine)
    expect(Object.hasOwn(sequence, '_eraseContextTokenRanges')).toBe(false)
    expect(Object.hasOwn(sequence, 'evaluateWithMetadata')).toBe(false)
  })

  test("call the engine's own method for what they replaced", async () => {
    const sequence = new FakeSequence()
    const seen: unknown[] = []
    const tracked: TrackedSequence = new TrackedSequence(sequence, {
      onIdle: () => undefined,
      onEmpty: () => undefined,
      onPrefill: () => undefined,
      adapt: async (tokens, allowShift) => {
        seen.push([tokens, allowShift])
        await tracked.adapt(tokens, allowShift)
      },
    })
    await sequence.adaptStateToTokens(numbers(2))
    expect(seen).toEqual([[[0, 1], true]])
    expect(sequence.calls).toEqual(['adapt'])
  })

  test('leave the engine to itself where somebody else hooked the method after them', async () => {
    const sequence = new FakeSequence()
    let adapted = 0
    const tracked = new TrackedSequence(sequence, {
      onIdle: () => undefined,
      onEmpty: () => undefined,
      onPrefill: () => undefined,
      adapt: async () => {
        adapted++
      },
    })
    const ours = sequence.adaptStateToTokens
    sequence.adaptStateToTokens = (tokens) => ours.call(sequence, tokens)
    tracked.release()
    await sequence.adaptStateToTokens(numbers(2))
    expect(adapted).toBe(0)
    expect(sequence.calls).toEqual(['adapt'])
  })

  test('gone meanwhile keep a state from being loaded', async () => {
    const sequence = new FakeSequence()
    const { tracked } = track(sequence)
    await sequence.evaluateWithoutGeneratingNewTokens(numbers(10))
    sequence.loads = numbers(8)
    const gate = sequence.hold('erase')
    const loading = tracked.load('path', 8)
    tracked.release()
    gate.open()
    await expect(loading).rejects.toMatchObject({ code: 'ERR_KV_ABORTED' })
    expect(sequence.calls).toEqual([])
  })

  test('let one onboard or offload after the other run', async () => {
    const { tracked } = track(new FakeSequence())
    const order: string[] = []
    const first = tracked.alone(async () => {
      order.push('first begins')
      await Promise.resolve()
      order.push('first ends')
      throw new Error('no')
    })
    const second = tracked.alone(async () => {
      order.push('second')
      return 2
    })
    await expect(first).rejects.toThrow('no')
    expect(await second).toBe(2)
    expect(order).toEqual(['first begins', 'first ends', 'second'])
  })
})
