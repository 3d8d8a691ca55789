/** The fields of published config.json files that decide a KV layout, written down by hand. */

export const LLAMA_3_1_8B = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 4096,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  torch_dtype: 'bfloat16',
}

export const MISTRAL_7B_V0_1 = {
  architectures: ['MistralForCausalLM'],
  model_type: 'mistral',
  hidden_size: 4096,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  sliding_window: 4096,
  torch_dtype: 'bfloat16',
}

export const QWEN_2_5_7B = {
  architectures: ['Qwen2ForCausalLM'],
  model_type: 'qwen2',
  hidden_size: 3584,
  max_window_layers: 28,
  num_attention_heads: 28,
  num_hidden_layers: 28,
  num_key_value_heads: 4,
  sliding_window: 131072,
  torch_dtype: 'bfloat16',
  use_sliding_window: false,
}

export const QWEN_3_8B = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  head_dim: 128,
  hidden_size: 4096,
  max_window_layers: 36,
  num_attention_heads: 32,
  num_hidden_layers: 36,
  num_key_value_heads: 8,
  sliding_window: null,
  torch_dtype: 'bfloat16',
  use_sliding_window: false,
}

export const GEMMA_2_9B = {
  architectures: ['Gemma2ForCausalLM'],
  model_type: 'gemma2',
  head_dim: 256,
  hidden_size: 3584,
  num_attention_heads: 16,
  num_hidden_layers: 42,
  num_key_value_heads: 8,
  sliding_window: 4096,
  torch_dtype: 'bfloat16',
}

/** The published text_config leaves the head counts to their defaults. */
export const GEMMA_3_4B = {
  architectures: ['Gemma3ForConditionalGeneration'],
  model_type: 'gemma3',
  torch_dtype: 'bfloat16',
  text_config: {
    model_type: 'gemma3_text',
    hidden_size: 2560,
    num_hidden_layers: 34,
    sliding_window: 1024,
  },
}

export const GPT_OSS_120B = {
  architectures: ['GptOssForCausalLM'],
  model_type: 'gpt_oss',
  head_dim: 64,
  hidden_size: 2880,
  layer_types: Array.from({ length: 36 }, (_, layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention')),
  num_attention_heads: 64,
  num_hidden_layers: 36,
  num_key_value_heads: 8,
  sliding_window: 128,
}

export const DEEPSEEK_R1 = {
  architectures: ['DeepseekV3ForCausalLM'],
  model_type: 'deepseek_v3',
  hidden_size: 7168,
  kv_lora_rank: 512,
  num_attention_heads: 128,
  num_hidden_layers: 61,
  num_key_value_heads: 128,
  num_nextn_predict_layers: 1,
  qk_rope_head_dim: 64,
  torch_dtype: 'bfloat16',
}
