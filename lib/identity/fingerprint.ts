/**
 * The fingerprint: which model, in which layout, made a block's bytes. It is the root of every sequence hash and names the
 * disk tier's directory, so that nothing of one model is readable as another's.
 */

import { createHash } from 'node:crypto'
import { integer, invalidType, invalidValue, optionsOf } from '../errors.js'
import { canonicalJson } from './canonical-json.js'
import { defineLayout, type ModelLayout } from './layer-groups.js'

/** What makes a model's KV different from every other's, beside its layout. */
export interface ModelIdentity {
  /** The model's name or path, which may be every string that is not empty; it is hashed, never parsed. */
  readonly name: string
  /** Revision of the weights, a commit for example. */
  readonly revision?: string
  /** Element type of the KV cache (default: the layout's). */
  readonly dtype?: string
  /** Rope parameters or overrides that change keys, as plain data. */
  readonly rope?: unknown
  /** Devices that share a layer (default 1). */
  readonly tensorParallel?: number
  /** Devices that share the layers (default 1). */
  readonly pipelineParallel?: number
  /** Anything else that changes KV bytes, as plain data: an engine's KV format version for example. */
  readonly extra?: unknown
}

/** What {@link fingerprintOf} takes. */
export interface FingerprintInput extends Omit<ModelIdentity, 'name'> {
  /** The model's name or path, which may be every string that is not empty; it is hashed, never parsed. */
  readonly model: string
  readonly layout: ModelLayout
}

/** Version of the identity and of everything stored under it; another version reads nothing of this one. */
export const FORMAT_VERSION = 1

const FIELDS = [
  'model',
  'layout',
  'revision',
  'dtype',
  'rope',
  'tensorParallel',
  'pipelineParallel',
  'extra',
] as const satisfies (keyof FingerprintInput)[]

function optionalText(name: string, value: unknown): string | null {
  if (value === undefined) return null
  if (typeof value !== 'string') return invalidType(name, 'a string', value)
  return value
}

/**
 * The fingerprint of a model and layout: SHA-256 over the canonical JSON of everything given, with the format version.
 * Every field changes it; an optional field that is left out differs from every value it could have, except for the
 * defaults named with it.
 *
 * @returns 32 bytes
 * @throws KvError ERR_KV_INVALID_TYPE or ERR_KV_INVALID_VALUE, naming the field
 */
export function fingerprintOf(input: FingerprintInput): Uint8Array {
  optionsOf('model identity', input, FIELDS)
  if (typeof input.model !== 'string') invalidType('model', 'a string', input.model)
  if (input.model === '') invalidValue('model', 'a name that is not empty', input.model)
  const layout = defineLayout(input.layout)
  const identity = {
    formatVersion: FORMAT_VERSION,
    model: input.model,
    revision: optionalText('revision', input.revision),
    dtype: optionalText('dtype', input.dtype) ?? layout.dtype ?? null,
    tokensPerBlock: layout.tokensPerBlock,
    groups: layout.groups,
    tensorParallel: integer('tensorParallel', input.tensorParallel ?? 1, 1, 65_536),
    pipelineParallel: integer('pipelineParallel', input.pipelineParallel ?? 1, 1, 65_536),
    ...(input.rope === undefined ? {} : { rope: input.rope }),
    ...(input.extra === undefined ? {} : { extra: input.extra }),
  }
  const hash = createHash('sha256').update('kvtier fingerprint\0').update(canonicalJson(identity, 'identity'))
  return new Uint8Array(hash.digest())
}
