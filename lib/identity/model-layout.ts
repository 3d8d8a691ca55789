/**
 * Derives a layout from a Hugging Face config.json: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3, GPT-OSS, DeepSeek V2, V3
 * and R1. A model it does not know, or a field that is missing, is an error that says so: a guessed layout would store
 * and load the wrong bytes.
 */
import { integer, invalidValue, KvError, object, optionsOf } from '../errors.js'
import { bytesOfValues, ELEMENT_TYPES, type ElementType, elementTypeOfConfig, isElementType } from './element-type.js'
import { defineLayout, type LayerGroupInput, type ModelLayout } from './layer-groups.js'

export { ELEMENT_TYPES, type ElementType } from './element-type.js'
export * from './layer-groups.js'

/** What {@link layoutOf} needs beside the model's config. */
export interface LayoutOptions {
  /** Tokens a block covers; the engine's own block size, if it has one. */
  readonly tokensPerBlock: number
  /** Element type of the KV cache; default: the config's `torch_dtype` or `dtype`. Engines may use another than the weights. */
  readonly dtype?: ElementType
  /**
   * Devices that each hold a part of every block (default 1). KV heads are divided among them; where there are fewer heads
   * than devices they are repeated. A latent vector (MLA) is whole on every device: say 1 to keep it once.
   */
  readonly tensorParallel?: number
  /** KV heads that one part holds, for engines that pad or repeat them in their own way (default: the division above). */
  readonly kvHeadsPerDevice?: number
}

const OPTIONS = [
  'tokensPerBlock',
  'dtype',
  'tensorParallel',
  'kvHeadsPerDevice',
] as const satisfies (keyof LayoutOptions)[]

type LayerType = 'full' | 'sliding'

/** How a family of models says which layers see a window only. `layer_types`, where present, decides before it. */
type Rule =
  | 'full' /** none */
  | 'mistral' /** all, when `sliding_window` is set */
  | 'qwen' /** from `max_window_layers` on, when `use_sliding_window` is true */
  | 'alternating' /** every other one, beginning with the first */
  | 'pattern' /** all but every n-th; n is `sliding_window_pattern`, 6 by default */
  | 'latent' /** none; one latent vector a token */

interface Family {
  readonly rule: Rule
  /** Values that the family's published configs leave out, as Transformers fills them in. */
  readonly defaults?: Readonly<Record<string, number>>
  /** Whether a missing `num_key_value_heads` means as many as attention heads. */
  readonly headsMayMatch?: true
}

const GEMMA_3: Family = {
  rule: 'pattern',
  defaults: { num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, sliding_window_pattern: 6 },
}

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { rule: 'full', headsMayMatch: true },
  mistral: { rule: 'mistral' },
  mixtral: { rule: 'mistral' },
  qwen2: { rule: 'qwen' },
  qwen2_moe: { rule: 'qwen' },
  qwen2_vl: { rule: 'qwen' },
  qwen2_vl_text: { rule: 'qwen' },
  qwen2_5_vl: { rule: 'qwen' },
  qwen2_5_vl_text: { rule: 'qwen' },
  qwen3: { rule: 'qwen' },
  qwen3_moe: { rule: 'qwen' },
  qwen3_vl_text: { rule: 'qwen' },
  qwen3_vl_moe_text: { rule: 'qwen' },
  gemma: { rule: 'full' },
  gemma2: { rule: 'alternating' },
  gemma3: GEMMA_3,
  gemma3_text: GEMMA_3,
  gpt_oss: { rule: 'alternating' },
  deepseek_v2: { rule: 'latent' },
  deepseek_v3: { rule: 'latent' },
  kimi_k2: { rule: 'latent' },
}

const BY_HAND = 'give the layout by hand with defineLayout()'
const BY_OPTION = `say which with the option dtype (${ELEMENT_TYPES.join(', ')}), or ${BY_HAND}`

function unsupported(problem: string, remedy: string = BY_HAND): never {
  throw new KvError('ERR_KV_UNSUPPORTED_MODEL', `The model's config cannot be read: ${problem}; ${remedy}.`)
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'missing'
  const json = JSON.stringify(value) ?? String(value)
  return json.length > 80 ? `${json.slice(0, 80)}…` : json
}

/** One config object with its family's defaults; every read names the field when it fails. */
class Fields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #prefix: string
  readonly #family: Family

  constructor(values: Readonly<Record<string, unknown>>, prefix: string, family: Family) {
    this.#values = values
    this.#prefix = prefix
    this.#family = family
  }

  /** The field as it stands; null and absent are both undefined. */
  get(name: string): unknown {
    return this.#values[name] ?? this.#family.defaults?.[name]
  }

  count(name: string): number {
    const value = this.get(name)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
      unsupported(`${this.#prefix}${name} must be a positive integer, but is ${shown(value)}`)
    }
    return value
  }

  fail(name: string, expected: string): never {
    unsupported(`${this.#prefix}${name} must be ${expected}, but is ${shown(this.#values[name])}`)
  }
}

function typeFromName(fields: Fields, name: unknown): LayerType {
  if (name === 'full_attention') return 'full'
  if (name === 'sliding_attention') return 'sliding'
  return fields.fail('layer_types', "a list of 'full_attention' and 'sliding_attention'")
}

function layerTypesOf(fields: Fields, rule: Rule, layers: number): readonly LayerType[] {
  const given = fields.get('layer_types')
  if (given !== undefined) {
    if (!Array.isArray(given) || given.length !== layers) {
      fields.fail('layer_types', `a list of ${layers} names, one a layer`)
    }
    return given.map((name) => typeFromName(fields, name))
  }
  const typeAt = ruleOf(fields, rule)
  return Array.from({ length: layers }, (_, layer) => typeAt(layer))
}

function ruleOf(fields: Fields, rule: Rule): (layer: number) => LayerType {
  switch (rule) {
    case 'full':
    case 'latent':
      return () => 'full'
    case 'mistral':
      return fields.get('sliding_window') === undefined ? () => 'full' : () => 'sliding'
    case 'qwen': {
      if (fields.get('use_sliding_window') !== true || fields.get('sliding_window') === undefined) return () => 'full'
      const first = fields.get('max_window_layers')
      if (typeof first !== 'number' || !Number.isSafeInteger(first) || first < 0) {
        fields.fail('max_window_layers', 'an integer, because use_sliding_window is true')
      }
      return (layer) => (layer >= first ? 'sliding' : 'full')
    }
    case 'alternating':
      return (layer) => (layer % 2 === 0 ? 'sliding' : 'full')
    case 'pattern': {
      const every = fields.count('sliding_window_pattern')
      return (layer) => ((layer + 1) % every === 0 ? 'full' : 'sliding')
    }
  }
}

function headDimOf(fields: Fields): number {
  if (fields.get('head_dim') !== undefined) return fields.count('head_dim')
  const hidden = fields.count('hidden_size')
  const heads = fields.count('num_attention_heads')
  if (hidden % heads !== 0)
    fields.fail('head_dim', `given, because hidden_size ${hidden} is not a multiple of ${heads} heads`)
  return hidden / heads
}

function headsPerPart(heads: number, parts: number): number {
  if (heads % parts === 0) return heads / parts
  if (parts % heads === 0) return 1
  return invalidValue(
    'tensorParallel',
    `a divisor or a multiple of the model's ${heads} KV heads (or give kvHeadsPerDevice)`,
    parts,
  )
}

function attentionGroups(
  fields: Fields,
  family: Family,
  layers: number,
  dtype: ElementType,
  options: LayoutOptions,
): LayerGroupInput[] {
  const parts = options.tensorParallel ?? 1
  const matching = family.headsMayMatch === true && fields.get('num_key_value_heads') === undefined
  const heads = fields.count(matching ? 'num_attention_heads' : 'num_key_value_heads')
  const perPart = options.kvHeadsPerDevice ?? headsPerPart(heads, parts)
  const bytesPerToken = bytesOfValues(dtype, perPart * headDimOf(fields))
  const types = layerTypesOf(fields, family.rule, layers)
  const indicesOf = (type: LayerType): number[] => types.flatMap((each, layer) => (each === type ? [layer] : []))
  const full = indicesOf('full')
  const sliding = indicesOf('sliding')
  const groups: LayerGroupInput[] = []
  if (full.length > 0) groups.push({ name: 'full', kind: 'full', layerIndices: full, bytesPerToken, parts })
  if (sliding.length > 0) {
    const windowTokens = fields.count('sliding_window')
    groups.push({ name: 'sliding', kind: 'sliding', layerIndices: sliding, bytesPerToken, windowTokens, parts })
  }
  return groups
}

function latentGroups(fields: Fields, layers: number, dtype: ElementType, options: LayoutOptions): LayerGroupInput[] {
  if (layerTypesOf(fields, 'latent', layers).includes('sliding')) {
    fields.fail('layer_types', "'full_attention' in every layer of a model with latent attention")
  }
  const values = fields.count('kv_lora_rank') + fields.count('qk_rope_head_dim')
  return [
    {
      name: 'latent',
      kind: 'latent',
      layerIndices: Array.from({ length: layers }, (_, layer) => layer),
      outer: 1,
      bytesPerToken: bytesOfValues(dtype, values),
      parts: options.tensorParallel ?? 1,
    },
  ]
}

function dtypeOf(inner: Readonly<Record<string, unknown>>, outer: Readonly<Record<string, unknown>>): ElementType {
  const quantization = inner.quantization_config ?? outer.quantization_config
  if (quantization !== null && typeof quantization === 'object' && 'kv_cache_scheme' in quantization) {
    if (quantization.kv_cache_scheme !== null) {
      unsupported('quantization_config.kv_cache_scheme names a KV type of its own', BY_OPTION)
    }
  }
  const name = inner.dtype ?? inner.torch_dtype ?? outer.dtype ?? outer.torch_dtype
  const type = elementTypeOfConfig(name)
  if (type !== undefined) return type
  return unsupported(`dtype (or torch_dtype) is ${shown(name)}, which names no KV type that kvtier knows`, BY_OPTION)
}

/**
 * The layout of a model's KV from its Hugging Face config.json, already parsed. Multimodal configs are read from their
 * `text_config`.
 *
 * @example
 * ```ts
 * const config = JSON.parse(await readFile('config.json', 'utf8'))
 * const layout = layoutOf(config, { tokensPerBlock: 16, dtype: 'bf16' })
 * ```
 * @returns a frozen layout with one group for full attention, one for windows, or one for latent vectors
 * @throws KvError ERR_KV_UNSUPPORTED_MODEL when the config is of an unknown model or lacks a field; ERR_KV_INVALID_TYPE and
 * ERR_KV_INVALID_VALUE for a wrong option
 */
export function layoutOf(config: unknown, options: LayoutOptions): ModelLayout {
  const outer = object('config', config)
  const given = optionsOf('options', options, OPTIONS)
  if (given.dtype !== undefined && !isElementType(given.dtype)) {
    invalidValue('dtype', `one of ${ELEMENT_TYPES.join(', ')}`, given.dtype)
  }
  if (given.tensorParallel !== undefined) integer('tensorParallel', given.tensorParallel, 1, 4_096)
  if (given.kvHeadsPerDevice !== undefined) integer('kvHeadsPerDevice', given.kvHeadsPerDevice, 1, 65_536)

  const nested = outer.text_config !== undefined && outer.text_config !== null
  const inner = nested ? object('config.text_config', outer.text_config) : outer
  const prefix = nested ? 'text_config.' : ''
  const type = inner.model_type
  const family = typeof type === 'string' && Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined
  if (family === undefined) {
    return unsupported(`${prefix}model_type is ${shown(type)}, and known are ${Object.keys(FAMILIES).join(', ')}`)
  }

  const fields = new Fields(inner, prefix, family)
  const dtype = options.dtype ?? dtypeOf(inner, outer)
  const layers = fields.count('num_hidden_layers')
  const groups =
    family.rule === 'latent'
      ? latentGroups(fields, layers, dtype, options)
      : attentionGroups(fields, family, layers, dtype, options)
  return defineLayout({ tokensPerBlock: options.tokensPerBlock, dtype, groups })
}
