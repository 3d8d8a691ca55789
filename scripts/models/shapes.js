/**
 * The shapes of made models: which there are, their metadata and their tensors. Weights are random, but scaled so that a
 * model computes like a trained one does: attention is peaked, and what it finds decides the next token.
 */
import { isText, tokenizerMetadata, VOCABULARY } from './tokenizer.js'
import { constantChunks, randomChunks } from './weights.js'

/** @typedef {import('./gguf-writer.js').Metadata} Metadata */
/** @typedef {import('./gguf-writer.js').Tensor} Tensor */
/** The types that a model's matrices can have. @typedef {'f16' | 'q8_0'} Dtype */
/**
 * `recurrent`: whether a layer has a short convolution in place of attention. `window`: how many tokens a sliding layer
 * sees, and every how many layers one sees all.
 *
 * @typedef {{
 *   about: string, architecture: 'llama' | 'gemma3' | 'lfm2', dtype: Dtype, layers: number, width: number, heads: number,
 *   kvHeads: number, headDim: number, feedForward: number, recurrent?: (layer: number) => boolean,
 *   window?: { tokens: number, period: number },
 * }} Shape
 */

/** How many tokens a model says it was trained for: the largest context. */
const CONTEXT_LENGTH = 16_384
const EPSILON = 1e-5
/** Queries and keys are this much larger than would keep their size, so that attention is peaked. */
const PEAKED = 1.5
/** Inputs of a short convolution: the last ones of each channel. */
const CONVOLUTION = 3

/** @type {Readonly<Record<'tiny' | 'mid' | 'large' | 'window' | 'hybrid', Shape>>} */
export const SHAPES = {
  tiny: {
    about: '2.6 M parameters, 2,048 bytes of KV a token in f16: unit tests',
    architecture: 'llama',
    dtype: 'f16',
    layers: 4,
    width: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    feedForward: 512,
  },
  mid: {
    about: '24.5 M parameters, 4,096 bytes of KV a token in f16: many users',
    architecture: 'llama',
    dtype: 'f16',
    layers: 8,
    width: 512,
    heads: 8,
    kvHeads: 2,
    headDim: 64,
    feedForward: 1536,
  },
  large: {
    about: '106.6 M parameters, 23,040 bytes of KV a token in f16: benchmarks (the shape of SmolLM2-135M)',
    architecture: 'llama',
    dtype: 'q8_0',
    layers: 30,
    width: 576,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    feedForward: 1536,
  },
  window: {
    about: '3.7 M parameters, two layers of three with a sliding window of 256 tokens (gemma3)',
    architecture: 'gemma3',
    dtype: 'f16',
    layers: 6,
    width: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    feedForward: 512,
    window: { tokens: 256, period: 3 },
  },
  hybrid: {
    about: '4.0 M parameters, two layers of three recurrent (lfm2)',
    architecture: 'lfm2',
    dtype: 'f16',
    layers: 6,
    width: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    feedForward: 512,
    recurrent: (layer) => layer % 3 !== 2,
  },
}

/** @typedef {keyof typeof SHAPES} ModelName */

/** @param {string} name @returns {name is ModelName} */
export function isModelName(name) {
  return Object.hasOwn(SHAPES, name)
}

/**
 * @param {ModelName} name
 * @param {Dtype} dtype
 * @returns {Metadata[]}
 */
export function metadataOf(name, dtype) {
  const shape = SHAPES[name]
  const { architecture } = shape
  /** @type {(key: string, type: Metadata['type'], value: Metadata['value']) => Metadata} */
  const own = (key, type, value) => ({ key: `${architecture}.${key}`, type, value })
  const layers = Array.from({ length: shape.layers }, (_, layer) => layer)
  const kvHeads = shape.recurrent
    ? own(
        'attention.head_count_kv',
        'i32',
        layers.map((layer) => (shape.recurrent?.(layer) ? 0 : shape.kvHeads)),
      )
    : own('attention.head_count_kv', 'u32', shape.kvHeads)
  return [
    { key: 'general.architecture', type: 'string', value: architecture },
    { key: 'general.name', type: 'string', value: `kvtier-${name}` },
    { key: 'general.file_type', type: 'u32', value: dtype === 'q8_0' ? 7 : 1 },
    ...(dtype === 'q8_0'
      ? [/** @type {Metadata} */ ({ key: 'general.quantization_version', type: 'u32', value: 2 })]
      : []),
    own('context_length', 'u32', CONTEXT_LENGTH),
    own('embedding_length', 'u32', shape.width),
    own('block_count', 'u32', shape.layers),
    own('feed_forward_length', 'u32', shape.feedForward),
    own('attention.head_count', 'u32', shape.heads),
    kvHeads,
    own('attention.key_length', 'u32', shape.headDim),
    own('attention.value_length', 'u32', shape.headDim),
    own('attention.layer_norm_rms_epsilon', 'f32', EPSILON),
    own('rope.dimension_count', 'u32', shape.headDim),
    own('rope.freq_base', 'f32', 10_000),
    own('vocab_size', 'u32', VOCABULARY),
    ...(shape.window
      ? [
          own('attention.sliding_window', 'u32', shape.window.tokens),
          own('attention.sliding_window_pattern', 'u32', shape.window.period),
        ]
      : []),
    ...(shape.recurrent ? [own('shortconv.l_cache', 'u32', CONVOLUTION)] : []),
    ...tokenizerMetadata(),
  ]
}

/**
 * @param {ModelName} name
 * @param {Dtype} dtype
 * @param {number} seed
 * @returns {Tensor[]}
 */
export function tensorsOf(name, dtype, seed) {
  const shape = SHAPES[name]
  const { width, heads, kvHeads, headDim, feedForward, architecture, layers } = shape
  /** @type {Tensor[]} */
  const tensors = []
  /** @type {(tensor: string, dims: number[], deviation: number, type?: Tensor['type'], isZero?: (row: number) => boolean) => void} */
  const random = (tensor, dims, deviation, type = dtype, isZero) => {
    const chunks = () => randomChunks(`${seed}/${name}/${tensor}`, dims, type, deviation, isZero)
    tensors.push({ name: tensor, dims, type, chunks })
  }
  /** @type {(tensor: string, length: number, value?: number) => void} */
  const norm = (tensor, length, value = 1) => {
    tensors.push({ name: tensor, dims: [length], type: 'f32', chunks: () => constantChunks(length, value) })
  }
  /** Keeps the size of what it is multiplied with. @param {number} fanIn */
  const even = (fanIn) => 1 / Math.sqrt(fanIn)
  // All that the layers add is about as large as what comes in; what attention finds counts twice, for it has been averaged.
  const added = 1 / Math.sqrt(layers)
  const found = 2 * added
  const isGemma = architecture === 'gemma3'

  // gemma3 multiplies embeddings with the root of the width.
  random('token_embd.weight', [width, VOCABULARY], isGemma ? even(width) : 1)
  norm(architecture === 'lfm2' ? 'token_embd_norm.weight' : 'output_norm.weight', width)
  random('output.weight', [width, VOCABULARY], even(width), dtype, (token) => !isText(token))
  for (let layer = 0; layer < layers; layer += 1) {
    const block = `blk.${layer}.`
    norm(`${block}attn_norm.weight`, width)
    if (shape.recurrent?.(layer)) {
      random(`${block}shortconv.conv.weight`, [CONVOLUTION, width], 1, 'f32')
      random(`${block}shortconv.in_proj.weight`, [width, 3 * width], even(width))
      random(`${block}shortconv.out_proj.weight`, [width, width], added * even(width))
    } else {
      // Where queries and keys are normalised, the norm's weight makes them larger instead.
      const hasNorms = isGemma || architecture === 'lfm2'
      const peaked = hasNorms ? 1 : PEAKED
      random(`${block}attn_q.weight`, [width, heads * headDim], peaked * even(width))
      random(`${block}attn_k.weight`, [width, kvHeads * headDim], peaked * even(width))
      random(`${block}attn_v.weight`, [width, kvHeads * headDim], even(width))
      random(`${block}attn_output.weight`, [heads * headDim, width], (isGemma ? 1 : found) * even(heads * headDim))
      if (hasNorms) {
        norm(`${block}attn_q_norm.weight`, headDim, PEAKED)
        norm(`${block}attn_k_norm.weight`, headDim, PEAKED)
      }
      if (isGemma) norm(`${block}post_attention_norm.weight`, width, found)
    }
    norm(`${block}ffn_norm.weight`, width)
    random(`${block}ffn_gate.weight`, [width, feedForward], even(width))
    random(`${block}ffn_up.weight`, [width, feedForward], even(width))
    random(`${block}ffn_down.weight`, [feedForward, width], (isGemma ? 1 : added) * even(feedForward))
    if (isGemma) norm(`${block}post_ffw_norm.weight`, width, added)
  }
  return tensors
}
