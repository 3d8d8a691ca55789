/** An engine that computes with blocks which kvtier moves out and in: its outputs are the same to the bit. */
import { afterEach, describe, expect, test } from 'vitest'
import { BlockManager } from '../../../lib/block-manager.ts'
import type { CopyStrategyName } from '../../../lib/device-options.ts'
import { fence } from '../../../lib/movement/fence.ts'
import type { LayoutKindName } from '../../../lib/native/binding.ts'
import { diskStrideOf, strideOf } from '../../support/layouts.ts'
import { withDirectory } from '../../support/manager.ts'
import { codesOf, expectQuiet } from '../../support/outcomes.ts'
import { expectNoViolations, onRealGpu, sim } from '../driver.ts'
import { createEngine, type Engine, type EngineOptions } from './engine.ts'
import { type Conversation, newConversation, Serving, SlotPool, type Turn } from './serving.ts'

afterEach(() => {
  sim?.release()
  expectNoViolations()
})

const CONVERSATIONS = 5
const TURNS = 4
const SLOTS = 40
const ALL_SLOTS = 200
const WAYS: readonly CopyStrategyName[] = ['rectangle', 'batch', 'kernel', 'staged']

/** What is asked in turn `number` of a conversation. Two begin alike, so that one finds the blocks of the other. */
function turnOf(conversation: number, number: number): Turn {
  const topic = number === 0 ? Math.floor(conversation / 2) : conversation * TURNS + number
  const asked = Array.from({ length: 7 + ((conversation + 2 * number) % 5) }, (_, i) => topic * 1000 + i)
  return { asked, answers: 3 + ((conversation + number) % 3) }
}

/** Every turn of every conversation, several at once. */
async function serveAll(serving: Serving): Promise<Conversation[]> {
  const conversations = Array.from({ length: CONVERSATIONS }, newConversation)
  for (let turn = 0; turn < TURNS; turn++) {
    await Promise.all(conversations.map((each, i) => serving.turn(each, turnOf(i, turn))))
  }
  return conversations
}

async function withEngine<T>(options: Partial<EngineOptions>, run: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = createEngine({ layers: 3, slots: SLOTS, ...options })
  try {
    return await run(engine)
  } finally {
    engine.close()
  }
}

async function withLent<T>(
  engine: Engine,
  forbid: readonly CopyStrategyName[],
  run: (manager: BlockManager) => Promise<T>,
): Promise<T> {
  return await withDirectory(async (directory) => {
    const layout = engine.model
    const manager = await BlockManager.open({
      layout,
      model: 'engine',
      device: engine.device({ measure: 'never', forbid }),
      host: { capacityBytes: 30 * strideOf(layout) },
      disk: { directory, capacityBytes: 200 * diskStrideOf(layout) },
      leaveLastBlock: false,
    })
    try {
      return await run(manager)
    } finally {
      await manager.close({ flush: false })
    }
  })
}

/** What is answered without kvtier; it does not depend on where anything lies. */
let expected: Promise<Conversation[]> | null = null
function withoutOffloading(): Promise<Conversation[]> {
  expected ??= withEngine({ slots: ALL_SLOTS }, (engine) =>
    serveAll(new Serving(engine, new SlotPool(ALL_SLOTS), null)),
  )
  return expected
}

interface Case {
  readonly layout: LayoutKindName
  readonly ways: string
  readonly forbid: readonly CopyStrategyName[]
  readonly layerEvents: boolean
}

const CASES: readonly Case[] = (['contiguous', 'layersKvOuter', 'layersKvInner'] as const).flatMap((layout) => [
  { layout, ways: 'any way', forbid: [], layerEvents: false },
  { layout, ways: 'single copies', forbid: WAYS, layerEvents: true },
  ...WAYS.map((way) => ({
    layout,
    ways: `way '${way}'`,
    forbid: WAYS.filter((each) => each !== way),
    layerEvents: way !== 'batch',
  })),
])

describe('an engine that lends its memory', () => {
  test('answers the same wherever its blocks lie and however many tokens it takes at once', async () => {
    const tokens = Array.from({ length: 22 }, (_, i) => i * 7)
    const table = [3, 9, 1, 30, 4, 17]
    const whole = await withEngine({}, (engine) => engine.decode(tokens, 0, table))
    for (const layout of ['contiguous', 'layersKvOuter'] as const) {
      await withEngine({ layout }, async (engine) => {
        const elsewhere = table.map((slot) => SLOTS - 1 - slot)
        const outputs: bigint[] = []
        for (let at = 0; at < tokens.length; at += 5) {
          const some = tokens.slice(at, at + 5)
          const blocks = Math.ceil((at + some.length) / 4)
          outputs.push(...(await engine.decode(some, at, elsewhere.slice(0, blocks))))
        }
        expect(outputs).toEqual(whole)
      })
    }
    const [first] = whole
    const other = await withEngine({}, (engine) => engine.decode([1, ...tokens.slice(1)], 0, table))
    expect(other[0]).not.toBe(first)
    expect(other.at(-1)).not.toBe(whole.at(-1))
  })

  test.each(CASES)('answers the same when blocks leave and return after every turn: $layout, $ways', async (each) => {
    const reference = await withoutOffloading()
    await withEngine({ layout: each.layout }, async (engine) => {
      await withLent(engine, each.forbid, async (manager) => {
        const serving = new Serving(engine, new SlotPool(SLOTS), manager, each.layerEvents)
        const served = await serveAll(serving)
        expect(served.map(({ outputs }) => outputs)).toEqual(reference.map(({ outputs }) => outputs))
        expect(serving.onboardedTokens).toBeGreaterThan(CONVERSATIONS * TURNS * 4)
        expect(manager.stats().counters.onboardedFromDisk).toBeGreaterThan(0)
        await serving.idle()
        expectQuiet(manager)
      })
    })
  })
})

describe.skipIf(onRealGpu)('on the simulated driver', () => {
  const prompt = Array.from({ length: 16 }, (_, i) => 500 + i)

  const otherPrompt = prompt.map((token) => token + 1000)
  const stored = [0, 1, 2, 3]
  const loaded = [13, 12, 11, 10]

  interface Behind {
    readonly offload: 'stream' | 'quiet'
    readonly onboard: 'stream' | 'quiet'
  }

  /**
   * A prompt is computed late and stored; then it is loaded into slots whose former use by the engine is late, too.
   *
   * @returns the next output, computed from the blocks where they were first and from those that were loaded
   */
  async function throughHost({ offload, onboard }: Behind): Promise<{ alone: bigint[]; continued: bigint[] }> {
    return await withEngine({}, async (engine) => {
      return await withLent(engine, [], async (manager) => {
        const after = (wait: 'stream' | 'quiet') => (wait === 'stream' ? fence.stream(engine.stream()) : fence.quiet())
        const sequence = manager.sequence(Uint32Array.from(prompt), { tenant: 'chat' })
        sim?.holdStream(engine.streamAddress())
        const prefilled = engine.decode(prompt, 0, stored)
        const store = sequence.offload({ from: Uint32Array.from(stored), after: after(offload) })
        if (offload === 'quiet') await store.done
        sim?.releaseStream(engine.streamAddress())
        await Promise.all([prefilled, store.settled])
        const alone = await engine.decode([9], 16, [...stored, 4])

        sim?.holdStream(engine.streamAddress())
        const former = engine.decode(otherPrompt, 0, loaded)
        const load = sequence.onboard({ into: Uint32Array.from(loaded), after: after(onboard) })
        if (onboard === 'quiet') await load.done
        sim?.releaseStream(engine.streamAddress())
        await Promise.all([former, load.settled])
        expect(codesOf(await load.done)).toEqual(['OK', 'OK', 'OK', 'OK'])
        return { alone, continued: await engine.decode([9], 16, [...loaded, 14]) }
      })
    })
  }

  test('what is queued in the engine’s stream is waited for', async () => {
    const { alone, continued } = await throughHost({ offload: 'stream', onboard: 'stream' })
    expect(continued).toEqual(alone)
  })

  test('without its fence an offload takes what the engine has not written, and the outputs show it', async () => {
    const { alone, continued } = await throughHost({ offload: 'quiet', onboard: 'stream' })
    expect(continued).not.toEqual(alone)
  })

  test('without its fence an onboard is written over by the slots’ former user, and the outputs show it', async () => {
    const { alone, continued } = await throughHost({ offload: 'stream', onboard: 'quiet' })
    expect(continued).not.toEqual(alone)
  })

  test('an engine gives everything back, also when any call that makes it fails', async () => {
    const seen = () => ['allocations', 'streams', 'events', 'modules', 'registrations'].map((what) => sim?.count(what))
    const before = seen()
    const callsBefore = sim?.calls(null) ?? 0
    const made = createEngine({ layers: 2, slots: 4 })
    const calls = (sim?.calls(null) ?? 0) - callsBefore
    made.close()
    expect(calls).toBeGreaterThan(20)
    expect(seen()).toEqual(before)
    // The last one makes the thread's former context current again, without which the engine works as well.
    for (let nth = 1; nth < calls; nth++) {
      sim?.failCall(null, nth, 2, 1)
      expect(() => createEngine({ layers: 2, slots: 4 }), `call ${nth}`).toThrow()
      expect(seen(), `after call ${nth}`).toEqual(before)
    }
    createEngine({ layers: 2, slots: 4 }).close()
  })

  test('a decode that cannot be is refused', async () => {
    await withEngine({ maxPositions: 20 }, async (engine) => {
      expect(() => engine.decode([], 0, [])).toThrow('1 to 64 tokens')
      expect(() => engine.decode([1], 0, [SLOTS])).toThrow(`no slot ${SLOTS}`)
      expect(() => engine.decode([1, 2, 3, 4, 5], 0, [1])).toThrow('block table of 2')
      expect(() => engine.decode([1], 20, [1, 2, 3, 4, 5, 6])).toThrow('at most 20 positions')
      sim?.hold()
      const queued = Array.from({ length: 16 }, () => engine.decode([1], 0, [1]))
      expect(() => engine.decode([1], 0, [1])).toThrow('too many')
      sim?.release()
      expect(new Set((await Promise.all(queued)).flat()).size).toBe(1)
    })
  })
})
