/**
 * The tokenizer of made models: a token for each printable ASCII character and for the space, one for every byte, so that
 * any UTF-8 text is tokenized and comes back unchanged, and ChatML's two control tokens with its template.
 */

/** How many tokens there are. */
export const VOCABULARY = 384

const SPACE = '\u2581'
/** What the file says of a token. */
const NORMAL = 1
const UNKNOWN = 2
const CONTROL = 3
const UNUSED = 5
const BYTE = 6

const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/** @typedef {{ text: string, type: number }} Token */

/** @returns {Token[]} */
function allTokens() {
  /** @type {Token[]} */
  const tokens = [
    { text: '<unk>', type: UNKNOWN },
    { text: '<s>', type: CONTROL },
    { text: '</s>', type: CONTROL },
  ]
  for (let byte = 0; byte < 256; byte += 1) {
    tokens.push({ text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, type: BYTE })
  }
  tokens.push({ text: SPACE, type: NORMAL })
  for (let code = 0x21; code <= 0x7e; code += 1) tokens.push({ text: String.fromCharCode(code), type: NORMAL })
  tokens.push({ text: '<|im_start|>', type: CONTROL }, { text: '<|im_end|>', type: CONTROL })
  while (tokens.length < VOCABULARY) tokens.push({ text: `<unused${tokens.length}>`, type: UNUSED })
  return tokens
}

const tokens = allTokens()

/**
 * Whether a token stands for a character. Models generate only these: an answer is valid text, and ends where it is told
 * to.
 *
 * @param {number} token
 * @returns {boolean}
 */
export function isText(token) {
  return tokens[token]?.type === NORMAL
}

/** @returns {import('./gguf-writer.js').Metadata[]} what the file says of its tokenizer */
export function tokenizerMetadata() {
  const at = (/** @type {string} */ text) => tokens.findIndex((token) => token.text === text)
  return [
    { key: 'tokenizer.ggml.model', type: 'string', value: 'llama' },
    { key: 'tokenizer.ggml.tokens', type: 'string', value: tokens.map(({ text }) => text) },
    { key: 'tokenizer.ggml.scores', type: 'f32', value: tokens.map(() => 0) },
    { key: 'tokenizer.ggml.token_type', type: 'i32', value: tokens.map(({ type }) => type) },
    { key: 'tokenizer.ggml.unknown_token_id', type: 'u32', value: at('<unk>') },
    { key: 'tokenizer.ggml.bos_token_id', type: 'u32', value: at('<s>') },
    { key: 'tokenizer.ggml.eos_token_id', type: 'u32', value: at('</s>') },
    { key: 'tokenizer.ggml.eot_token_id', type: 'u32', value: at('<|im_end|>') },
    { key: 'tokenizer.ggml.add_bos_token', type: 'bool', value: true },
    { key: 'tokenizer.ggml.add_space_prefix', type: 'bool', value: false },
    { key: 'tokenizer.chat_template', type: 'string', value: CHAT_TEMPLATE },
  ]
}
