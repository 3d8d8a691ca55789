/**
 * What the connector needs of node-llama-cpp's objects, as shapes: kvtier neither imports the engine nor depends on its
 * types, so that it installs and runs without it. Names that begin with an underscore are the engine's internal ones; the
 * connector works without them or says what it cannot do.
 */
import { invalidType, KvError } from '../../errors.js'

/** A model of node-llama-cpp (LlamaModel). */
export interface EngineModel {
  readonly disposed: boolean
  readonly llama: {
    readonly llamaCppRelease?: { readonly repo: string; readonly release: string } | undefined
    readonly buildType?: string | undefined
  }
  readonly fileInfo: EngineFileInfo
  readonly fileInsights: {
    readonly isRecurrent: boolean
    readonly isHybrid: boolean
    readonly swaSize?: number | undefined
  }
  readonly tokens: { readonly bos?: number | null }
}

/** What the engine read from the model's file. */
export interface EngineFileInfo {
  readonly metadata: unknown
  readonly fullTensorInfo?: readonly EngineTensorInfo[] | undefined
  readonly sourceData?: readonly unknown[] | undefined
}

/** One tensor of a model's file. */
export interface EngineTensorInfo {
  readonly name: string
  readonly dimensions: readonly (number | bigint)[]
  readonly ggmlType: number
  readonly fileOffset?: number | bigint | undefined
  readonly filePart?: number | undefined
}

/** A context of node-llama-cpp (LlamaContext). */
export interface EngineContext {
  readonly disposed: boolean
  readonly model: EngineModel
  readonly contextSize: number
  /** Tokens that are evaluated at once. */
  readonly batchSize?: number
  /** Whether a sliding window has a cell for every position. */
  readonly _swaFullCache?: boolean
  readonly flashAttention: boolean | string
  readonly sequencesLeft: number
  getSequence(): EngineSequence
  dispose(): Promise<void>
}

/** A sequence of node-llama-cpp (LlamaContextSequence). */
export interface EngineSequence {
  readonly disposed: boolean
  readonly context: EngineContext
  readonly contextSize: number
  /** Tokens in the state, and so the position of the next one. */
  readonly nextTokenIndex: number
  readonly contextTokens: readonly number[]
  readonly onDispose: { createListener(callback: () => void): { dispose(): void } }
  /** Tokens that the engine would evaluate to go back to a token; since 3.21. */
  getRestoreToPrefixIndexEvaluationSize?(tokenIndex: number): number
  clearHistory(): Promise<void>
  dispose(): Promise<void> | void
  saveStateToFile(path: string): Promise<{ readonly fileSize: number }>
  loadStateFromFile(path: string, acceptRisk: { readonly acceptRisk: true }): Promise<void>
  adaptStateToTokens(tokens: readonly number[], allowShift?: boolean): Promise<void>
  evaluateWithMetadata(
    tokens: readonly number[],
    metadata: object,
    options?: object,
  ): AsyncGenerator<unknown, unknown, unknown>
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[], options?: object): Promise<void>
  controlledEvaluate(input: readonly unknown[], options?: object): Promise<unknown>
}

const SEQUENCE_METHODS = [
  'clearHistory',
  'saveStateToFile',
  'loadStateFromFile',
  'adaptStateToTokens',
  'evaluateWithMetadata',
  'evaluateWithoutGeneratingNewTokens',
  'controlledEvaluate',
] as const

/** Throws ERR_KV_INVALID_TYPE unless `value` has the methods of a context of node-llama-cpp. */
export function checkContext(name: string, value: unknown): asserts value is EngineContext {
  if (!isObject(value) || typeof value.getSequence !== 'function' || !isObject(value.model)) {
    invalidType(name, 'a LlamaContext of node-llama-cpp', value)
  }
}

/** Throws ERR_KV_INVALID_TYPE unless `value` has the methods of a model of node-llama-cpp. */
export function checkModel(name: string, value: unknown): asserts value is EngineModel {
  if (!isObject(value) || !isObject(value.fileInfo) || !isObject(value.fileInsights)) {
    invalidType(name, 'a LlamaModel of node-llama-cpp', value)
  }
}

/** Throws unless `value` is a sequence of the context, with everything that the connector calls. */
export function checkEngineSequence(
  name: string,
  value: unknown,
  context: EngineContext,
): asserts value is EngineSequence {
  if (!isObject(value) || typeof value.adaptStateToTokens !== 'function') {
    invalidType(name, 'a LlamaContextSequence of node-llama-cpp', value)
  }
  const missing = SEQUENCE_METHODS.filter((method) => typeof value[method] !== 'function')
  if (missing.length > 0) {
    throw new KvError(
      'ERR_KV_UNSUPPORTED',
      `${name} has no ${missing.join(', ')}; this connector needs node-llama-cpp 3.14 or later.`,
    )
  }
  if (value.context !== context) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      `${name} belongs to another context than the one the cache was bound to; bind a cache for each context.`,
    )
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && (typeof value === 'object' || typeof value === 'function')
}
