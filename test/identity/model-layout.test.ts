import { describe, expect, it } from 'vitest'

import {
  blockBytesOf,
  bytesPerTokenOf,
  groupShapeOf,
  type LayoutOptions,
  layoutOf,
} from '../../lib/identity/model-layout.js'
import { errorOf } from '../support/expect-code.js'
import {
  DEEPSEEK_R1,
  GEMMA_2_9B,
  GEMMA_3_4B,
  GPT_OSS_120B,
  LLAMA_3_1_8B,
  MISTRAL_7B_V0_1,
  QWEN_2_5_7B,
  QWEN_3_8B,
} from './configs.js'

const OPTIONS: LayoutOptions = { tokensPerBlock: 16 }

describe('layoutOf of published models', () => {
  it('gives Llama-3.1-8B 131,072 bytes a token in one group of full attention', () => {
    const layout = layoutOf(LLAMA_3_1_8B, OPTIONS)
    expect(bytesPerTokenOf(layout)).toBe(131_072)
    expect(blockBytesOf(layout)).toBe(16 * 131_072)
    expect(layout.dtype).toBe('bf16')
    expect(layout.groups).toHaveLength(1)
    expect(layout.groups[0]).toMatchObject({
      name: 'full',
      kind: 'full',
      layers: 32,
      outer: 2,
      bytesPerToken: 2048,
      parts: 1,
    })
  })

  it('gives GPT-OSS-120b 73,728 bytes a token, half of its layers in a window of 128 tokens', () => {
    const layout = layoutOf(GPT_OSS_120B, { ...OPTIONS, dtype: 'bf16' })
    expect(bytesPerTokenOf(layout)).toBe(73_728)
    expect(layout.groups.map((group) => [group.kind, group.layers, group.windowTokens])).toEqual([
      ['full', 18, undefined],
      ['sliding', 18, 128],
    ])
    expect(layout.groups[1]?.layerIndices?.slice(0, 3)).toEqual([0, 2, 4])
  })

  it('reads GPT-OSS without layer_types by the rule of its family', () => {
    const { layer_types: _, ...without } = GPT_OSS_120B
    const options: LayoutOptions = { ...OPTIONS, dtype: 'bf16' }
    expect(layoutOf(without, options)).toEqual(layoutOf(GPT_OSS_120B, options))
  })

  it('gives DeepSeek-R1 70,272 bytes a token in one latent group with a single plane', () => {
    const layout = layoutOf(DEEPSEEK_R1, OPTIONS)
    expect(bytesPerTokenOf(layout)).toBe(70_272)
    expect(layout.groups).toHaveLength(1)
    expect(layout.groups[0]).toMatchObject({ kind: 'latent', layers: 61, outer: 1, bytesPerToken: 1152 })
  })

  it('puts every layer of Mistral-7B v0.1 into its window, and none where the window is null', () => {
    expect(layoutOf(MISTRAL_7B_V0_1, OPTIONS).groups).toMatchObject([
      { kind: 'sliding', layers: 32, windowTokens: 4096 },
    ])
    const open = layoutOf({ ...MISTRAL_7B_V0_1, sliding_window: null }, OPTIONS)
    expect(open.groups).toMatchObject([{ kind: 'full', layers: 32 }])
  })

  it('ignores the window of Qwen unless use_sliding_window is true', () => {
    expect(layoutOf(QWEN_2_5_7B, OPTIONS).groups).toMatchObject([{ kind: 'full', layers: 28 }])
    expect(bytesPerTokenOf(layoutOf(QWEN_2_5_7B, OPTIONS))).toBe(57_344)
    expect(bytesPerTokenOf(layoutOf(QWEN_3_8B, OPTIONS))).toBe(147_456)
    const windowed = layoutOf({ ...QWEN_2_5_7B, use_sliding_window: true, max_window_layers: 20 }, OPTIONS)
    expect(windowed.groups.map((group) => [group.kind, group.layers])).toEqual([
      ['full', 20],
      ['sliding', 8],
    ])
  })

  it('alternates windows in Gemma 2, beginning with the first layer', () => {
    const layout = layoutOf(GEMMA_2_9B, OPTIONS)
    expect(bytesPerTokenOf(layout)).toBe(344_064)
    expect(layout.groups.map((group) => [group.kind, group.layers, group.layerIndices?.[0]])).toEqual([
      ['full', 21, 1],
      ['sliding', 21, 0],
    ])
  })

  it('reads Gemma 3 from text_config: five windows to one full layer, head counts by default', () => {
    const layout = layoutOf(GEMMA_3_4B, OPTIONS)
    expect(layout.groups.map((group) => [group.kind, group.layers, group.bytesPerToken])).toEqual([
      ['full', 5, 4 * 256 * 2],
      ['sliding', 29, 4 * 256 * 2],
    ])
    expect(layout.groups[0]?.layerIndices).toEqual([5, 11, 17, 23, 29])
  })
})

describe('layoutOf options', () => {
  it('counts a dtype of the caller instead of the config’s', () => {
    expect(bytesPerTokenOf(layoutOf(LLAMA_3_1_8B, { ...OPTIONS, dtype: 'fp8' }))).toBe(65_536)
    expect(bytesPerTokenOf(layoutOf(LLAMA_3_1_8B, { ...OPTIONS, dtype: 'f32' }))).toBe(262_144)
    expect(bytesPerTokenOf(layoutOf(LLAMA_3_1_8B, { ...OPTIONS, dtype: 'q8_0' }))).toBe(65_536 * (34 / 32))
  })

  it('divides KV heads among the devices and repeats them where there are too few', () => {
    const four = layoutOf(LLAMA_3_1_8B, { ...OPTIONS, tensorParallel: 4 })
    expect(four.groups[0]).toMatchObject({ parts: 4, bytesPerToken: 512 })
    expect(bytesPerTokenOf(four)).toBe(131_072)
    const sixteen = layoutOf(LLAMA_3_1_8B, { ...OPTIONS, tensorParallel: 16 })
    expect(sixteen.groups[0]).toMatchObject({ parts: 16, bytesPerToken: 256 })
    const padded = layoutOf(LLAMA_3_1_8B, { ...OPTIONS, tensorParallel: 3, kvHeadsPerDevice: 3 })
    expect(padded.groups[0]).toMatchObject({ parts: 3, bytesPerToken: 768 })
  })

  it('gives native code the shape of a group', () => {
    const layout = layoutOf(LLAMA_3_1_8B, { ...OPTIONS, tensorParallel: 2 })
    expect(groupShapeOf(layout.groups[0]!, layout.tokensPerBlock)).toEqual({
      parts: 2,
      layers: 32,
      outer: 2,
      tokensPerBlock: 16,
      bytesPerToken: 1024,
    })
  })

  it.each([
    ['a head count that does not divide', { tensorParallel: 3 }, 'ERR_KV_INVALID_VALUE', /8 KV heads/],
    ['a dtype that is none', { dtype: 'f8' }, 'ERR_KV_INVALID_VALUE', /dtype must be one of f32/],
    ['zero devices', { tensorParallel: 0 }, 'ERR_KV_INVALID_VALUE', /tensorParallel/],
    ['half a head', { kvHeadsPerDevice: 0.5 }, 'ERR_KV_INVALID_VALUE', /kvHeadsPerDevice/],
    [
      'a misspelt option',
      { dtpye: 'fp8' },
      'ERR_KV_INVALID_VALUE',
      /options\.dtpye is unknown\. Did you mean 'dtype'\?/,
    ],
    ['no tokens a block', { tokensPerBlock: 0 }, 'ERR_KV_INVALID_VALUE', /tokensPerBlock/],
    ['text for tokens a block', { tokensPerBlock: '16' }, 'ERR_KV_INVALID_TYPE', /tokensPerBlock/],
  ] as const)('refuses %s', (_, options, code, message) => {
    const all = { ...OPTIONS, ...options } as LayoutOptions
    expect(errorOf(code, () => layoutOf(LLAMA_3_1_8B, all)).message).toMatch(message)
  })

  it('refuses a block format that does not divide the values of a token', () => {
    const config = { ...LLAMA_3_1_8B, head_dim: 60 }
    const run = () => layoutOf(config, { ...OPTIONS, dtype: 'q4_0', tensorParallel: 8 })
    expect(errorOf('ERR_KV_INVALID_VALUE', run).message).toMatch(/runs of 32 values.*60 values/)
  })
})

describe('layoutOf of a config it cannot read', () => {
  const without = (config: Record<string, unknown>, name: string): Record<string, unknown> =>
    Object.fromEntries(Object.entries(config).filter(([key]) => key !== name))

  it.each([
    ['an unknown model', { ...LLAMA_3_1_8B, model_type: 'mamba2' }, /model_type is "mamba2"/],
    ['no model_type', without(LLAMA_3_1_8B, 'model_type'), /model_type is missing/],
    ['a model_type of an object’s own methods', { ...LLAMA_3_1_8B, model_type: 'constructor' }, /"constructor"/],
    ['no layers', without(LLAMA_3_1_8B, 'num_hidden_layers'), /num_hidden_layers .* missing/],
    ['layers that are text', { ...LLAMA_3_1_8B, num_hidden_layers: '32' }, /num_hidden_layers .* "32"/],
    ['no KV heads in Mistral', without(MISTRAL_7B_V0_1, 'num_key_value_heads'), /num_key_value_heads .* missing/],
    ['heads that do not divide', { ...LLAMA_3_1_8B, hidden_size: 4100 }, /head_dim/],
    ['no dtype', without(LLAMA_3_1_8B, 'torch_dtype'), /dtype .* missing.* option dtype/],
    ['an odd dtype', { ...LLAMA_3_1_8B, torch_dtype: 'float4' }, /"float4"/],
    ['a short layer_types', { ...GPT_OSS_120B, torch_dtype: 'bfloat16', layer_types: ['full_attention'] }, /36 names/],
    [
      'an unknown layer type',
      { ...QWEN_3_8B, layer_types: Array.from({ length: 36 }, () => 'linear_attention') },
      /layer_types/,
    ],
    ['windows without a size', { ...GEMMA_2_9B, sliding_window: null }, /sliding_window/],
    [
      'windows without a first layer',
      { ...QWEN_2_5_7B, use_sliding_window: true, max_window_layers: null },
      /max_window/,
    ],
    ['no latent rank', without(DEEPSEEK_R1, 'kv_lora_rank'), /kv_lora_rank .* missing/],
    [
      'a nested model without type',
      { ...GEMMA_3_4B, text_config: { num_hidden_layers: 3 } },
      /text_config\.model_type/,
    ],
    [
      'windows in a latent model',
      { ...DEEPSEEK_R1, layer_types: Array.from({ length: 61 }, () => 'sliding_attention') },
      /layer_types/,
    ],
    [
      'a KV type of the weights’ own',
      { ...LLAMA_3_1_8B, quantization_config: { kv_cache_scheme: { num_bits: 8 } } },
      /kv_cache_scheme/,
    ],
  ])('refuses %s, naming the field and defineLayout', (_, config, message) => {
    const text = errorOf('ERR_KV_UNSUPPORTED_MODEL', () => layoutOf(config, OPTIONS)).message
    expect(text).toMatch(message)
    expect(text).toContain('defineLayout()')
  })

  it.each([[null], [undefined], ['{}'], [[]]])('refuses %j, which is no config at all', (config) => {
    errorOf('ERR_KV_INVALID_TYPE', () => layoutOf(config, OPTIONS))
  })

  it('takes a Llama without KV heads as one of full heads, as its first models were published', () => {
    const layout = layoutOf(without(LLAMA_3_1_8B, 'num_key_value_heads'), OPTIONS)
    expect(bytesPerTokenOf(layout)).toBe(4 * 131_072)
  })
})
