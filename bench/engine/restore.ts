/**
 * What a prompt costs until the logits behind its last token: computed, or brought back and only its end computed. All in
 * processor time of the whole process, with one thread of the engine, while nothing else runs in it.
 */
import type { BenchContext, Group, GroupSpec, Row, Sample, Skipped } from '../harness/types.js'
import { BATCH_TOKENS, EngineCache, TOKENS_PER_BLOCK } from './cache.js'
import { type LoadedModel, modelIsMade, openModel } from './engine.js'
import { PHASE_NAMES, PHASES, PhaseClock, type PhaseSeconds, secondsOf } from './phases.js'
import { type Logits, largestDifference, promptOf } from './prompts.js'

const MODEL = 'large'

/** The types of its weights. In Q8_0 a prompt is computed faster than in f16, and a state loaded no faster: there is less to gain. The aims are the same. */
const WEIGHTS = [
  { dtype: 'q8_0', ending: '' },
  { dtype: 'f16', ending: ', f16 weights' },
] as const
type Weights = (typeof WEIGHTS)[number]

/** Lengths of prompts, and how many times faster they should be back: with up to 64 tokens to evaluate, and whole. */
const LENGTHS = [
  { tokens: 512, suffix: 7, whole: 87 },
  { tokens: 1024, suffix: 15, whole: 163 },
  { tokens: 2048, suffix: 22, whole: 335 },
  { tokens: 4096, suffix: 34, whole: 370 },
] as const
type Length = (typeof LENGTHS)[number]

/** Lengths that a quick look has. */
const QUICK_TOKENS = 1024

/**
 * Ways in which a prompt comes back: from which tier, and how many of its last tokens are evaluated: as few as whole blocks
 * leave, as many as blocks of 64 tokens would leave, and one, where all of a prompt with one token more comes back.
 */
const WAYS = [
  { key: 'host', from: 'host', evaluated: TOKENS_PER_BLOCK },
  { key: 'host64', from: 'host', evaluated: 64 },
  { key: 'hostWhole', from: 'host', evaluated: 1 },
  { key: 'disk', from: 'disk', evaluated: TOKENS_PER_BLOCK },
  { key: 'diskWhole', from: 'disk', evaluated: 1 },
] as const
type Way = (typeof WAYS)[number]

const TIER_NAMES = { host: 'host memory', disk: 'disk' } as const

/** The prompt that is answered. `tokens` has one token more than the length. */
function promptFor({ evaluated }: Way, tokens: readonly number[]): readonly number[] {
  return evaluated === 1 ? tokens : tokens.slice(0, -1)
}

/** As much of the prompt as makes the right number of tokens come back: an onboard leaves at least one. */
function restoredPart(way: Way, tokens: readonly number[]): readonly number[] {
  const prompt = promptFor(way, tokens)
  return prompt.slice(0, prompt.length - way.evaluated + 1)
}

function nameOf({ from, evaluated }: Way, tokens: number, ending = ''): string {
  const what = evaluated === 1 ? `full hit of ${tokens} tokens` : `restore ${tokens} tokens but ${evaluated}`
  return `${what} from ${TIER_NAMES[from]}${ending}`
}

/** The rows of one length; samples have the ways' keys in their names, and all names end with `ending`. */
export function restoreRows(length: Length, parameters: Row['parameters'], hasAims: boolean, ending = ''): Row[] {
  const { tokens } = length
  const rows: Row[] = []
  for (const way of WAYS) {
    const name = nameOf(way, tokens, ending)
    const { evaluated } = way
    const given = { ...parameters, prompt: tokens, evaluated, from: TIER_NAMES[way.from] }
    const bound = evaluated === 1 ? length.whole : length.suffix
    rows.push({
      name,
      unit: 'tokens/s',
      subject: `${way.key} rate`,
      limit: { name: 'computing the prompt', sample: 'prefill rate' },
      better: 'higher',
      aim: hasAims && way.from === 'host' ? { of: 'ratio', bound } : null,
      parameters: given,
    })
    if (way.from === 'host') {
      rows.push({
        name: `${name}: if all but llama.cpp took no time`,
        unit: 'tokens/s',
        subject: `${way.key} bound`,
        limit: { name: 'computing the prompt', sample: 'prefill rate' },
        better: 'higher',
        aim: null,
        parameters: given,
      })
    }
    const part = { unit: 'ms', better: 'lower', aim: null, parameters: given } as const
    const whole = { name: 'all of it', sample: `${way.key} ms` }
    rows.push({ ...part, name: `${name}: outside llama.cpp`, subject: `${way.key} outside`, limit: whole })
    // From disk all is as from host memory, once the blocks are there.
    for (const phase of way.from === 'host' ? PHASE_NAMES : (['load'] as const)) {
      rows.push({ ...part, name: `${name}: ${PHASES[phase].name}`, subject: `${way.key} ${phase}`, limit: whole })
    }
  }
  return rows
}

/** Samples of one way from the seconds of its phases. */
export function restoreSample(key: string, tokens: number, phases: PhaseSeconds): Sample {
  const seconds = secondsOf(phases)
  const outside = secondsOf(phases, true)
  const sample: Record<string, number> = {
    [`${key} rate`]: tokens / seconds,
    [`${key} bound`]: tokens / (seconds - outside),
    [`${key} ms`]: seconds * 1000,
    [`${key} outside`]: outside * 1000,
  }
  for (const phase of PHASE_NAMES) sample[`${key} ${phase}`] = phases[phase] * 1000
  return sample
}

/** Laps where the manager has brought blocks to host memory, and where the engine begins and ends loading an image. */
function takeLaps({ manager, sequence }: EngineCache, clock: PhaseClock): void {
  const { host } = manager
  const load = host.load.bind(host)
  host.load = async (...given) => {
    clock.lap('match')
    const reading = await load(...given)
    clock.lap('load')
    return reading
  }
  const loadState = sequence.loadStateFromFile.bind(sequence)
  sequence.loadStateFromFile = async (...given) => {
    clock.lap('image')
    await loadState(...given)
    clock.lap('engineLoad')
  }
}

/** One way, measured. */
async function restore(engine: EngineCache, clock: PhaseClock, way: Way, tokens: readonly number[]): Promise<Sample> {
  await engine.clear()
  await engine.place(tokens, way.from)
  clock.start()
  await engine.restore(restoredPart(way, tokens), way.from)
  clock.lap('rest')
  await engine.evaluateRest(promptFor(way, tokens))
  return restoreSample(way.key, tokens.length - 1, clock.end('evaluate'))
}

/** Computes the prompt once, stores it, and checks that every way gives the very logits that computing it gave. */
async function storeAndCheck(engine: EngineCache, tokens: readonly number[]): Promise<void> {
  const length = tokens.length - 1
  await engine.cache.onboard(engine.sequence, tokens)
  await engine.logitsAfter(tokens.slice(0, -1))
  const blocks = await engine.store()
  if (blocks !== EngineCache.blocksOf(length)) throw new Error(`${blocks} blocks of the prompt were stored.`)
  // From what was computed then, the last tokens once more, in batches as they are evaluated behind what comes back.
  const computed = new Map<number, Logits>()
  for (const way of WAYS.toSorted((a, b) => a.evaluated - b.evaluated)) {
    if (computed.has(way.evaluated)) continue
    const prompt = promptFor(way, tokens)
    await engine.goBackTo(prompt.length - way.evaluated)
    computed.set(way.evaluated, await engine.logitsAfter(prompt))
  }
  for (const way of WAYS) {
    await engine.clear()
    await engine.place(tokens, way.from)
    await engine.restore(restoredPart(way, tokens), way.from)
    const restored = await engine.logitsAfter(promptFor(way, tokens))
    const difference = largestDifference(computed.get(way.evaluated) ?? new Map(), restored)
    if (difference === 0) continue
    throw new Error(`${nameOf(way, length)}: a logit differs by ${difference} from the computed one.`)
  }
}

async function openLength(
  { limits, directory }: BenchContext,
  loaded: LoadedModel,
  length: Length,
  { ending }: Weights,
): Promise<Group> {
  const tokens = promptOf(loaded.model, length.tokens + 1)
  const engine = await EngineCache.open(loaded.model, { tokens: length.tokens, directory })
  const now = limits.processCpuSeconds
  const clock = new PhaseClock(now)
  takeLaps(engine, clock)
  await storeAndCheck(engine, tokens)
  const parameters = {
    model: loaded.name,
    bytesPerToken: engine.bytesPerToken,
    threads: 1,
    batch: BATCH_TOKENS,
    flashAttention: String(engine.context.flashAttention),
    tokensPerBlock: TOKENS_PER_BLOCK,
    clock: 'processor time of all threads',
  }
  return {
    rows: restoreRows(length, parameters, loaded.isMade, ending),
    measures: [
      async (round): Promise<Sample> => {
        // The check was the warm-up.
        if (round < 0) return {}
        await engine.clear()
        const started = now()
        await engine.evaluateRest(tokens.slice(0, -1))
        return { 'prefill rate': length.tokens / (now() - started) }
      },
      ...WAYS.map((way) => () => restore(engine, clock, way, tokens)),
    ],
    async close() {
      await engine.close()
      await loaded.close()
    },
  }
}

async function open(context: BenchContext, length: Length, weights: Weights): Promise<Group | Skipped> {
  if (context.quick && length.tokens > QUICK_TOKENS) {
    return { skipped: `--quick has prompts of ${QUICK_TOKENS} tokens at most` }
  }
  if (weights !== WEIGHTS[0]) {
    if (context.quick) return { skipped: `--quick has weights in ${WEIGHTS[0].dtype} only` }
    if (!modelIsMade()) return { skipped: 'KVTIER_ENGINE_MODEL names a model, whose weights are as they are' }
  }
  const loaded = await openModel(MODEL, weights.dtype)
  if ('skipped' in loaded) return loaded
  try {
    return await openLength(context, loaded, length, weights)
  } catch (error) {
    await loaded.close()
    throw error
  }
}

/** See the file's first lines. */
export const RESTORE: readonly GroupSpec[] = WEIGHTS.flatMap((weights) =>
  LENGTHS.map((length) => ({
    suite: 'engine',
    name: `restore against prefill, ${length.tokens} tokens${weights.ending}`,
    rounds: 5,
    open: (context) => open(context, length, weights),
  })),
)
