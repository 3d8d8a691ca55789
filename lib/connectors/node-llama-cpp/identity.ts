/**
 * What makes the KV of one node-llama-cpp context different from every other's: the model's files, adapters, and the
 * settings that change keys and values. Reads samples of the files, never all of them.
 */
import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { invalidType, invalidValue, KvError, object, optionsOf } from '../../errors.js'
import { canonicalJson } from '../../identity/canonical-json.js'
import type { ModelIdentity } from '../../identity/fingerprint.js'
import type { EngineContext, EngineModel } from './engine.js'

/** A LoRA adapter as the context was created with. */
export interface LoraAdapter {
  readonly filePath: string
  /** Default 1. */
  readonly scale?: number
}

/** A file, and where in it something lies that tells two of them apart. */
interface SampledFile {
  readonly path: string
  /** Bytes from the start that are read whole. */
  readonly headerBytes: number
  /** Offsets of further samples; none: spread evenly. */
  readonly offsets: readonly number[]
}

const SLICE_BYTES = 256 * 1024
const SAMPLE_BYTES = 4096
const MOST_HEADER_BYTES = 256 * 1024 * 1024
const EVEN_SAMPLES = 1024
/** Version of the rows' canonical order and of what is sampled; another one reads nothing of this one. */
const CONNECTOR_VERSION = 1

/** Reads exactly what is there of `[offset, offset + bytes)` and hashes it, a slice at a time. */
async function hashRange(hash: Hash, file: FileHandle, offset: number, bytes: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(bytes, SLICE_BYTES))
  for (let at = 0; at < bytes; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, bytes - at), offset + at)
    if (bytesRead === 0) return
    hash.update(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
}

async function hashFile({ path, headerBytes, offsets }: SampledFile): Promise<{ bytes: number; sha256: string }> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r')
    const { size } = await file.stat()
    const hash = createHash('sha256')
    await hashRange(hash, file, 0, Math.min(size, headerBytes, MOST_HEADER_BYTES))
    const step = Math.max(SAMPLE_BYTES, Math.floor(size / EVEN_SAMPLES))
    const even = Array.from({ length: Math.ceil(size / step) }, (_, i) => i * step)
    for (const offset of offsets.length > 0 ? offsets : even) await hashRange(hash, file, offset, SAMPLE_BYTES)
    await hashRange(hash, file, Math.max(0, size - SAMPLE_BYTES), SAMPLE_BYTES)
    return { bytes: size, sha256: hash.digest('hex') }
  } catch (error) {
    throw new KvError('ERR_KV_IO', `The model's file ${path} could not be read to tell it from others: ${error}`, {
      cause: error,
    })
  } finally {
    await file?.close()
  }
}

/** The model's files with the places of their tensors: the start and the middle of each. */
function filesOf(model: EngineModel, modelPath: string | undefined): SampledFile[] {
  const tensors = model.fileInfo.fullTensorInfo ?? []
  const sources = (model.fileInfo.sourceData ?? []).filter(isPathSource)
  const internal = (model as { readonly _modelPath?: unknown })._modelPath
  const only = modelPath ?? (typeof internal === 'string' ? internal : undefined)
  if (sources.length === 0 && only === undefined) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      'This version of node-llama-cpp does not say where the model was loaded from; name its file with modelPath.',
    )
  }
  const files = sources.length > 0 ? sources : [{ path: only ?? '', length: 1024 * 1024 }]
  return files.map(({ path, length }, index) => {
    const here = tensors
      .filter((tensor) => (tensor.filePart ?? 1) === index + 1)
      .map((tensor) => Number(tensor.fileOffset ?? 0))
      .sort((a, b) => a - b)
    const middles = here.slice(1).map((next, i) => ((here[i] ?? 0) + next) / 2)
    return {
      path: sources.length === 1 && modelPath !== undefined ? modelPath : path,
      headerBytes: length,
      offsets: [...here, ...middles.map(Math.floor)].sort((a, b) => a - b),
    }
  })
}

function isPathSource(value: unknown): value is { readonly path: string; readonly length: number } {
  if (value === null || typeof value !== 'object') return false
  return 'path' in value && typeof value.path === 'string' && 'length' in value && typeof value.length === 'number'
}

/** Metadata as plain data: what the file says, or what the model was loaded with instead. Long lists are in the file. */
function plainMetadata(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
  if (Array.isArray(value)) return value.length > 1024 ? value.length : value.map((each) => plainMetadata(each, depth))
  if (value === null || typeof value !== 'object') return value === undefined ? null : value
  if (depth > 8) return null
  const entries = Object.entries(value).filter(([key]) => key !== 'chat_template' && key !== 'tokens')
  return Object.fromEntries(entries.map(([key, each]) => [key, plainMetadata(each, depth + 1)]))
}

/**
 * Whether rope depends on how long the context is. The engine takes a model's long factors for contexts that are longer
 * than the original one, and goes by the tensors: their metadata often names no type. Where the tensors are not known, it
 * is said to depend.
 */
function ropeDependsOnContext(model: EngineModel, metadata: unknown): boolean {
  const { fullTensorInfo } = model.fileInfo
  if (fullTensorInfo === undefined || fullTensorInfo.some(({ name }) => /rope_factors_(long|short)/.test(name)))
    return true
  const text = JSON.stringify(plainMetadata(metadata) ?? null)
  return /"type":"(yarn|longrope)"/.test(text)
}

/** Checks what the caller says of LoRA adapters, and holds it against what the context has. */
export function checkLora(context: EngineContext, value: unknown): readonly LoraAdapter[] {
  if (value !== undefined && !Array.isArray(value)) invalidType('lora', 'an array of { filePath, scale }', value)
  const given = (value ?? []).map((each: unknown, i: number) => {
    const { filePath, scale } = optionsOf(`lora[${i}]`, each, ['filePath', 'scale'])
    if (typeof filePath !== 'string' || filePath === '') invalidType(`lora[${i}].filePath`, 'a path', filePath)
    if (scale !== undefined && (typeof scale !== 'number' || !Number.isFinite(scale))) {
      invalidValue(`lora[${i}].scale`, 'a number', scale)
    }
    return scale === undefined ? { filePath } : { filePath, scale }
  })
  const internal = (context as { readonly _loraAdapters?: unknown })._loraAdapters
  const loaded = internal instanceof Set ? internal.size : given.length
  if (loaded !== given.length) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      `The context has ${loaded} LoRA adapters, but lora names ${given.length}. Name each that the context was created ` +
        'with, with its scale: they change the KV.',
    )
  }
  return given
}

/**
 * The identity of everything that this context computes, without what the image says of it (types, sizes).
 *
 * @param modelPath - where the model's file is, for versions of the engine that do not say
 * @throws KvError ERR_KV_IO when a file cannot be read; ERR_KV_INVALID_VALUE when it is not known where it is
 */
export async function identityOf(
  model: EngineModel,
  context: EngineContext,
  lora: readonly LoraAdapter[],
  modelPath: string | undefined,
): Promise<Omit<ModelIdentity, 'dtype'>> {
  const files = await Promise.all(filesOf(model, modelPath).map(hashFile))
  const adapters = await Promise.all(
    lora.map(async ({ filePath, scale }) => ({
      ...(await hashFile({ path: filePath, headerBytes: 16 * 1024 * 1024, offsets: [] })),
      scale: String(scale ?? 1),
    })),
  )
  const metadata = object('model.fileInfo.metadata', model.fileInfo.metadata)
  const revision = createHash('sha256')
    .update(canonicalJson({ files, metadata: plainMetadata(metadata) }, 'model'))
    .digest('hex')
  return {
    name: 'node-llama-cpp',
    revision,
    extra: {
      connector: CONNECTOR_VERSION,
      engine: `${model.llama.llamaCppRelease?.repo ?? 'unknown'} ${model.llama.llamaCppRelease?.release ?? 'unknown'}`,
      flashAttention: String(context.flashAttention),
      contextSize: ropeDependsOnContext(model, metadata) ? context.contextSize : null,
      keysRotated: process.env.LLAMA_ATTN_ROT_DISABLE ?? '',
      lora: adapters,
    },
  }
}
