/**
 * How long kvtier keeps the JavaScript thread at a stretch while a state is stored and comes back, in processor time of
 * that thread; and how late the event loop is meanwhile, against how late it is while the engine saves and loads alone.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { BenchContext, Group, GroupSpec, Row, Sample, Skipped } from '../harness/types.js'
import { EngineCache } from './cache.js'
import { type LoadedModel, openModel } from './engine.js'
import { promptOf } from './prompts.js'
import { Stretches, watchCompletions, watchMethods, watchTurns } from './stretches.js'

const MODEL = { name: 'large', dtype: 'q8_0' } as const
const TOKENS = 4096
/** For a quick look. */
const QUICK_TOKENS = 512
/** Seconds of the JavaScript thread that kvtier may take at a stretch. */
const MOST_MS = 2
/** A timer that is due so often shows how late the event loop is. */
const TIMER_MS = 1
/** The engine's methods that kvtier waits for. */
const METHODS = ['saveStateToFile', 'loadStateFromFile', 'clearHistory', 'adaptStateToTokens'] as const

const OPERATIONS = [
  { key: 'offload', name: 'offload to host memory and disk' },
  { key: 'host', name: 'onboard from host memory' },
  { key: 'disk', name: 'onboard from disk' },
] as const
type Operation = (typeof OPERATIONS)[number]['key']

/** The rows of all operations. */
export function mainThreadRows(parameters: Row['parameters'], hasAims: boolean): Row[] {
  const cost = { unit: 'ms', better: 'lower' } as const
  return OPERATIONS.flatMap(({ key, name }): Row[] => {
    const alone = key === 'offload' ? 'save' : 'load'
    return [
      {
        ...cost,
        name: `longest stretch of kvtier on the JavaScript thread, ${name}`,
        subject: `${key} stretch`,
        limit: null,
        take: 'largest',
        aim: hasAims ? { of: 'value', bound: MOST_MS } : null,
        parameters: {
          ...parameters,
          clock: 'processor time of the JavaScript thread, largest of all rounds',
          stretch: 'from entry (call, completion, result of the engine, turn) until the event loop has control again',
        },
      },
      {
        ...cost,
        name: `longest delay of the event loop, ${name}`,
        subject: `${key} delay`,
        limit: { name: `the engine's ${alone} alone`, sample: `${alone} delay` },
        aim: null,
        parameters: { ...parameters, clock: 'wall time', timerMs: TIMER_MS },
      },
    ]
  })
}

/** One prompt's state, in and out. */
class StateTrips {
  readonly #engine: EngineCache
  readonly #tokens: readonly number[]
  readonly #file: string

  /** @param tokens - one more than the state has */
  constructor(engine: EngineCache, tokens: readonly number[], directory: string) {
    this.#engine = engine
    this.#tokens = tokens
    this.#file = join(directory, 'engine-state')
  }

  /** Computes the state and stores it. */
  async compute(): Promise<void> {
    await this.#engine.cache.onboard(this.#engine.sequence, this.#tokens)
    await this.#engine.sequence.evaluateWithoutGeneratingNewTokens(this.#tokens.slice(0, -1))
    await this.#engine.store()
  }

  /** Makes everything ready for an operation, and gives it. */
  async prepare(operation: Operation): Promise<() => Promise<void>> {
    const engine = this.#engine
    await engine.clear()
    await engine.place(this.#tokens, operation === 'disk' ? 'disk' : 'host')
    if (operation !== 'offload') return () => engine.restore(this.#tokens, operation)
    await engine.restore(this.#tokens, 'host')
    await engine.forget(this.#tokens)
    const blocks = EngineCache.blocksOf(this.#tokens.length - 1)
    return async () => {
      const stored = await engine.store()
      if (stored !== blocks) throw new Error(`${stored} of ${blocks} blocks were stored.`)
    }
  }

  /** Has the engine save its state to a file, and load it, on its own. */
  async alone(): Promise<Sample> {
    const { sequence } = this.#engine
    await (await this.prepare('host'))()
    const save = await longestDelay(() => sequence.saveStateToFile(this.#file))
    await sequence.clearHistory()
    const load = await longestDelay(() => sequence.loadStateFromFile(this.#file, { acceptRisk: true }))
    rmSync(this.#file)
    return { 'save delay': save, 'load delay': load }
  }
}

/** The longest delay of the event loop during `work`, in milliseconds. */
async function longestDelay(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: TIMER_MS })
  delay.enable()
  await work()
  await nextTurn()
  delay.disable()
  // None is recorded of what ends before the timer is due.
  return Math.max(TIMER_MS, delay.max / 1e6)
}

async function openState({ limits, directory, quick }: BenchContext, loaded: LoadedModel): Promise<Group> {
  const count = quick ? QUICK_TOKENS : TOKENS
  const engine = await EngineCache.open(loaded.model, { tokens: count, directory })
  const stretches = new Stretches(limits.threadCpuSeconds)
  watchMethods(stretches, engine.sequence, METHODS)
  const unwatch = [watchCompletions(stretches), watchTurns(stretches)]
  const trips = new StateTrips(engine, promptOf(loaded.model, count + 1), directory)
  await trips.compute()

  const measure = async (key: Operation): Promise<Sample> => {
    const watched = await trips.prepare(key)
    await nextTurn()
    stretches.reset()
    stretches.enter()
    await watched()
    // What became ready with the operation's end is still part of its last stretch.
    await nextTurn()
    const { longest } = stretches
    const delay = await longestDelay(await trips.prepare(key))
    return { [`${key} stretch`]: longest * 1000, [`${key} delay`]: delay }
  }
  const parameters = { model: loaded.name, tokens: count, stateBytes: count * engine.bytesPerToken }
  return {
    rows: mainThreadRows(parameters, loaded.isMade && !quick),
    measures: [
      ...OPERATIONS.map(
        ({ key }) =>
          () =>
            measure(key),
      ),
      () => trips.alone(),
    ],
    async close() {
      for (const end of unwatch) end()
      await engine.close()
      await loaded.close()
    },
  }
}

async function open(context: BenchContext): Promise<Group | Skipped> {
  const loaded = await openModel(MODEL.name, MODEL.dtype)
  if ('skipped' in loaded) return loaded
  try {
    return await openState(context, loaded)
  } catch (error) {
    await loaded.close()
    throw error
  }
}

/** See the file's first lines. */
export const MAIN_THREAD: readonly GroupSpec[] = [{ suite: 'engine', name: 'main thread', rounds: 7, open }]
