/**
 * What a manager must be opened with for the state of a node-llama-cpp context: read off a state that the engine saved.
 */
import { integer, isKvError, KvError, optionsOf } from '../../errors.js'
import type { ModelIdentity } from '../../identity/fingerprint.js'
import { MAX_TOKENS_PER_BLOCK, type ModelLayout } from '../../identity/model-layout.js'
import { binding } from '../../native/binding.js'
import { completions } from '../../native/completions.js'
import type { ImageSectionKind, ReadImage } from '../../native/image-binding.js'
import {
  checkContext,
  checkEngineSequence,
  checkModel,
  type EngineContext,
  type EngineModel,
  type EngineSequence,
} from './engine.js'
import { checkLora, identityOf, type LoraAdapter } from './identity.js'
import { keepingContext } from './keep-context.js'
import { candidateSections, layoutOfImage } from './layout.js'
import { StateImage } from './state-images.js'

/** Which context of node-llama-cpp, and what it does not say of itself. */
export interface NodeLlamaCppTarget {
  readonly model: EngineModel
  readonly context: EngineContext
  /** Where the model's file is; only needed where the engine does not say (before 3.20). */
  readonly modelPath?: string
  /** The LoRA adapters that the context was created with: the engine does not tell their scales. */
  readonly lora?: readonly LoraAdapter[]
  /**
   * An empty sequence to try things out on. Default: one of the context's that nobody took, which is given back; name one
   * where all are taken.
   */
  readonly sequence?: EngineSequence
}

/** Tokens a block covers where nothing else is asked for. */
export const DEFAULT_TOKENS_PER_BLOCK = 16

/** What {@link describeNodeLlamaCpp} takes. */
export interface DescribeOptions extends NodeLlamaCppTarget {
  /**
   * Tokens a block covers (default 16). What a prompt has beyond its last whole block is computed again, so that fewer
   * answer sooner; more cost the index less memory, and make larger blocks, which disks move faster. Blocks of 16 tokens
   * have 0.3 MiB to 2 MiB with most models. Of a model with a sliding window it must divide the window.
   */
  readonly tokensPerBlock?: number
}

/** What `BlockManager.open` takes for a context of node-llama-cpp, beside the sizes of its tiers. */
export interface NodeLlamaCppModel {
  readonly layout: ModelLayout
  readonly model: ModelIdentity
}

/** A target that was checked. */
export interface CheckedTarget {
  readonly model: EngineModel
  readonly context: EngineContext
  readonly lora: readonly LoraAdapter[]
  readonly modelPath: string | undefined
  readonly sequence: EngineSequence | undefined
}

/** The fields of {@link NodeLlamaCppTarget}. */
export const TARGET_FIELDS = ['model', 'context', 'modelPath', 'lora', 'sequence'] as const

/** Checks what names a context. */
export function checkTarget(given: Record<string, unknown>): CheckedTarget {
  const { model, context, modelPath, sequence } = given
  checkModel('model', model)
  checkContext('context', context)
  if (context.model !== model) {
    throw new KvError('ERR_KV_INVALID_VALUE', 'model is not the model that the context was created from.')
  }
  if (context.disposed || model.disposed) {
    throw new KvError('ERR_KV_CLOSED', 'The context, or its model, was disposed; create a new one.')
  }
  if (modelPath !== undefined && (typeof modelPath !== 'string' || modelPath === '')) {
    throw new KvError('ERR_KV_INVALID_TYPE', 'modelPath must be the path of the model file.')
  }
  if (sequence !== undefined) checkEngineSequence('sequence', sequence, context)
  return { model, context, lora: checkLora(context, given.lora), modelPath, sequence }
}

/** Gives `work` an empty sequence, which is empty again afterwards. */
export async function withSpareSequence<T>(
  target: CheckedTarget,
  work: (sequence: EngineSequence) => Promise<T>,
): Promise<T> {
  const { context, sequence } = target
  if (sequence === undefined && context.sequencesLeft < 1) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      'All sequences of the context are taken, and one is needed to try things out on: do this before getSequence(), or ' +
        'name an empty one with `sequence`.',
    )
  }
  if (sequence !== undefined && sequence.nextTokenIndex !== 0) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      `sequence must be empty, but has ${sequence.nextTokenIndex} tokens; call its clearHistory() first.`,
    )
  }
  const spare = sequence ?? context.getSequence()
  checkEngineSequence('sequence', spare, context)
  try {
    return await work(spare)
  } finally {
    if (sequence === undefined) await spare.dispose()
    else await sequence.clearHistory()
  }
}

/** Evaluates `count` tokens that every model has. */
export async function evaluateSome(sequence: EngineSequence, count: number): Promise<void> {
  const first = sequence.context.model.tokens.bos ?? 1
  await sequence.evaluateWithoutGeneratingNewTokens(Array.from({ length: count }, (_, i) => (i === 0 ? first : i % 97)))
}

/** Reads an image as the kinds of sections that fit it. */
export async function readAs(
  model: EngineModel,
  image: StateImage,
  maxTokens: number,
): Promise<{ readonly kinds: readonly ImageSectionKind[]; readonly read: ReadImage }> {
  let why = ''
  for (const kinds of candidateSections(model)) {
    try {
      return { kinds, read: await image.read(kinds, maxTokens) }
    } catch (error) {
      if (!isKvError(error)) throw error
      why ||= error.message
    }
  }
  throw new KvError(
    'ERR_KV_UNSUPPORTED_MODEL',
    `The state that the engine saves for this model is of a kind that cannot be cut into blocks: ${why}`,
  )
}

/**
 * Says what a block manager must be opened with to keep the KV of a context. Evaluates a few tokens on a spare sequence,
 * saves its state and reads the sizes there, and takes samples of the model's file for the identity.
 *
 * @example
 * ```ts
 * const manager = await BlockManager.open({
 *   ...(await describeNodeLlamaCpp({ model, context })),
 *   host: { capacityBytes: 2 * GiB },
 *   disk: { directory: './kv-cache', capacityBytes: 20 * GiB },
 * })
 * const cache = await bindNodeLlamaCpp(manager, { model, context })
 * ```
 * @throws KvError ERR_KV_UNSUPPORTED_MODEL when its state cannot be cut into blocks, with the reason; ERR_KV_INVALID_TYPE
 * or ERR_KV_INVALID_VALUE naming the option; ERR_KV_CLOSED; ERR_KV_IO when the model's file cannot be read; ERR_KV_UNSUPPORTED
 * for an engine without what this needs
 */
export async function describeNodeLlamaCpp(options: DescribeOptions): Promise<NodeLlamaCppModel> {
  const given = optionsOf('options', options, [...TARGET_FIELDS, 'tokensPerBlock'])
  const target = checkTarget(given)
  const { model, context, lora, modelPath } = target
  const tokensPerBlock = integer(
    'tokensPerBlock',
    given.tokensPerBlock ?? DEFAULT_TOKENS_PER_BLOCK,
    1,
    MAX_TOKENS_PER_BLOCK,
  )
  const done = completions()
  binding.openEngine({ threads: 0, readBytesInFlight: 1, writeBytesInFlight: 1, queueBlocks: 1 })
  const layout = await withSpareSequence(target, async (sequence) => {
    const image = new StateImage(binding, done)
    try {
      await evaluateSome(sequence, 4)
      await keepingContext(context, () => sequence.saveStateToFile(image.path))
      const { kinds, read } = await readAs(model, image, context.contextSize)
      return layoutOfImage(model, read, kinds, tokensPerBlock)
    } finally {
      await image.close()
    }
  })
  return { layout, model: await identityOf(model, context, lora, modelPath) }
}
