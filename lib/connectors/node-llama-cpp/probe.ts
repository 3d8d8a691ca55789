/**
 * The test at the bind: a state of two blocks is saved, cut, put together again and compared byte by byte, through the
 * manager's own host slots. Only where the bytes are equal are blocks used at all.
 */
import { randomUUID } from 'node:crypto'
import type { BlockManager } from '../../block-manager.js'
import { isKvError, KvError } from '../../errors.js'
import { fingerprintOf } from '../../identity/fingerprint.js'
import type { ReadImage } from '../../native/image-binding.js'
import { zeroCacheCounters } from './cache-stats.js'
import { type CacheContext, promptOf } from './context.js'
import { type CheckedTarget, evaluateSome, readAs, withSpareSequence } from './describe.js'
import { identityOf } from './identity.js'
import { keepingContext } from './keep-context.js'
import { layoutOfImage, sectionsOf } from './layout.js'
import { storeState } from './offload.js'
import { buildImage } from './onboard.js'
import { Speeds } from './speeds.js'
import type { StateImages } from './state-images.js'
import { TrackedSequence } from './tracked-sequence.js'

/** What the test found: what a cache works with, or why it cannot. */
export type ProbeOutcome =
  | { readonly context: CacheContext; readonly reason: '' }
  | { readonly context: null; readonly reason: string }

/**
 * Tests whether blocks of this context can be used with this manager.
 *
 * @throws KvError ERR_KV_LAYOUT_MISMATCH when the manager was opened for another model, other settings or another layout
 */
export async function probe(manager: BlockManager, target: CheckedTarget, images: StateImages): Promise<ProbeOutcome> {
  try {
    return await withSpareSequence(target, async (sequence) => {
      const { model, context } = target
      const { tokensPerBlock } = manager.layout
      if (context.contextSize <= 2 * tokensPerBlock) {
        const reason = `The context has ${context.contextSize} tokens; it needs more than two blocks of ${tokensPerBlock}.`
        return { context: null, reason } as const
      }
      await evaluateSome(sequence, 2 * tokensPerBlock)
      return await images.toSave(async (saved) => {
        await keepingContext(context, () => sequence.saveStateToFile(saved.path))
        const { kinds, read } = await readAs(model, saved, context.contextSize)
        await checkIdentity(manager, target, read, kinds)
        const sections = sectionsOf(kinds)
        const found: CacheContext = {
          manager,
          images,
          kinds,
          sections,
          pattern: read,
          contextSize: context.contextSize,
          tokensPerBlock,
          needsBoundaries: sections.some(({ kind }) => kind === 'sliding' || kind === 'recurrent'),
          ring: null,
          speeds: new Speeds(),
          counters: zeroCacheCounters(),
        }
        const same = await images.toBuild(async (built) => {
          // What is only tried out does not count.
          await rebuild({ ...found, counters: zeroCacheCounters() }, sequence, read, built)
          return await built.equals(saved)
        })
        if (same) return { context: found, reason: '' } as const
        return { context: null, reason: 'A state that was put together of its blocks is not the state that was saved.' }
      })
    })
  } catch (error) {
    if (!isKvError(error) || error.code === 'ERR_KV_LAYOUT_MISMATCH' || error.code === 'ERR_KV_INVALID_VALUE')
      throw error
    return { context: null, reason: error.message }
  }
}

async function checkIdentity(
  manager: BlockManager,
  { model, context, lora, modelPath }: CheckedTarget,
  read: ReadImage,
  kinds: CacheContext['kinds'],
): Promise<void> {
  const layout = layoutOfImage(model, read, kinds, manager.layout.tokensPerBlock)
  const { name, ...identity } = await identityOf(model, context, lora, modelPath)
  const expected = fingerprintOf({ ...identity, model: name, layout })
  if (Buffer.compare(expected, manager.internals.fingerprint) === 0) return
  throw new KvError(
    'ERR_KV_LAYOUT_MISMATCH',
    'The manager was opened for another model, other settings of its context, or another layout. Open it with what ' +
      'describeNodeLlamaCpp() says of this context: { ...(await describeNodeLlamaCpp({ model, context })), host, disk }.',
  )
}

/** Stores the two blocks as somebody's whom nobody else can be, and puts them together again. */
async function rebuild(
  context: CacheContext,
  sequence: Parameters<typeof evaluateSome>[0],
  read: ReadImage,
  built: Parameters<typeof buildImage>[4],
): Promise<void> {
  const tracked = new TrackedSequence(sequence, {
    onIdle: () => undefined,
    onEmpty: () => undefined,
    onPrefill: () => undefined,
    adapt: null,
  })
  tracked.trust()
  try {
    const meta = { tenant: `probe ${randomUUID()}`, priority: 0 }
    const { tokens } = read
    await storeState(context, tracked, meta, {})
    const blockSequence = promptOf(context, tokens, meta)
    const reading = await context.manager.host.load(blockSequence)
    try {
      if (reading.result.tokens < tokens.length) {
        throw new KvError(
          'ERR_KV_CAPACITY_TOO_SMALL',
          `Host memory took ${reading.result.tokens} of the ${tokens.length} tokens of the test: ${reading.result.message}`,
        )
      }
      await buildImage(context, reading, blockSequence, tokens, built)
    } finally {
      reading.release()
      context.manager.host.forget(blockSequence)
    }
  } finally {
    tracked.release()
  }
}
