/**
 * What the endpoint is asked: the body of POST /v1/chat/completions, checked, in the engine's words.
 */

/** A request that cannot be served as it is: the message says what was sent, and what there is. */
export class RequestError extends Error {
  /** @param {string} message @param {string | null} [parameter] - which field of the body @param {number} [status] */
  constructor(message, parameter = null, status = 400) {
    super(message)
    this.parameter = parameter
    this.status = status
  }
}

/**
 * A checked request. `tenant`: whose blocks it uses; null: the server's own, for whoever names no user.
 *
 * @typedef {{ history: import('node-llama-cpp').ChatHistoryItem[], stream: boolean, includeUsage: boolean,
 *   maxTokens: number | null, temperature: number, seed: number | null, stop: string[], tenant: string | null }} ChatRequest
 */

/** What would change an answer and is not there; silently leaving it out would be wrong. */
const UNSUPPORTED = ['tools', 'functions', 'logprobs', 'audio', 'logit_bias']
const MOST_MESSAGES = 1024
const MOST_STOPS = 4
const MOST_USER_BYTES = 256

/** @param {unknown} value @returns {value is Record<string, unknown>} */
function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** @param {unknown} value @returns {string} what was sent, short enough for a message */
function shown(value) {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 40 ? `${text.slice(0, 40)}...` : text
}

/**
 * @param {Record<string, unknown>} body
 * @param {string} name
 * @param {number} least
 * @param {number} most
 * @param {boolean} whole
 * @returns {number | null}
 */
function numberOf(body, name, least, most, whole) {
  const value = body[name]
  if (value === undefined || value === null) return null
  if (typeof value === 'number' && value >= least && value <= most && (!whole || Number.isSafeInteger(value)))
    return value
  throw new RequestError(
    `${name} must be a ${whole ? 'whole ' : ''}number from ${least} to ${most}, not ${shown(value)}.`,
    name,
  )
}

/** @param {Record<string, unknown>} body @param {string} name @returns {boolean} */
function flagOf(body, name) {
  const value = body[name] ?? false
  if (typeof value === 'boolean') return value
  throw new RequestError(`${name} must be true or false, not ${shown(value)}.`, name)
}

/** @param {unknown} content @param {string} name @returns {string} */
function textOf(content, name) {
  if (typeof content === 'string') return content
  if (Array.isArray(content)) {
    return content
      .map((part) => {
        if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text
        throw new RequestError(
          `${name} has a part that is not text: ${shown(part)}. This server takes text only.`,
          name,
        )
      })
      .join('')
  }
  throw new RequestError(`${name} must be a text, or an array of text parts, not ${shown(content)}.`, name)
}

/** @param {unknown} message @param {number} number @returns {import('node-llama-cpp').ChatHistoryItem} */
function itemOf(message, number) {
  const name = `messages[${number}]`
  if (!isObject(message)) throw new RequestError(`${name} must be an object with role and content.`, name)
  const text = textOf(message.content, `${name}.content`)
  switch (message.role) {
    case 'system':
    case 'developer':
      return { type: 'system', text }
    case 'user':
      return { type: 'user', text }
    case 'assistant':
      return { type: 'model', response: [text] }
    default:
      throw new RequestError(
        `${name}.role must be system, developer, user or assistant, not ${shown(message.role)}.`,
        `${name}.role`,
      )
  }
}

/** @param {unknown} messages @returns {import('node-llama-cpp').ChatHistoryItem[]} */
function historyOf(messages) {
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MOST_MESSAGES) {
    throw new RequestError(`messages must be an array of 1 to ${MOST_MESSAGES} messages.`, 'messages')
  }
  const history = messages.map(itemOf)
  if (history.at(-1)?.type === 'user') return history
  throw new RequestError('The last of messages must have the role user.', 'messages')
}

/** @param {unknown} stop @returns {string[]} */
function stopsOf(stop) {
  if (stop === undefined || stop === null) return []
  const stops = Array.isArray(stop) ? stop : [stop]
  if (stops.length <= MOST_STOPS && stops.every((each) => typeof each === 'string' && each !== '')) return stops
  throw new RequestError(`stop must be a text, or up to ${MOST_STOPS} of them, not ${shown(stop)}.`, 'stop')
}

/** @param {unknown} user @returns {string | null} */
function tenantOf(user) {
  if (user === undefined || user === null) return null
  if (typeof user === 'string' && user !== '' && Buffer.byteLength(user) <= MOST_USER_BYTES) return `user ${user}`
  throw new RequestError(`user must be a text of 1 to ${MOST_USER_BYTES} bytes, not ${shown(user)}.`, 'user')
}

/**
 * @param {unknown} body
 * @param {string} modelName - the one that this server has
 * @returns {ChatRequest}
 * @throws RequestError
 */
export function readChatRequest(body, modelName) {
  if (!isObject(body)) throw new RequestError('The body must be a JSON object.')
  const { model, messages } = body
  if (model !== undefined && model !== modelName) {
    throw new RequestError(`There is no model ${shown(model)}: this server has ${modelName}.`, 'model', 404)
  }
  for (const name of UNSUPPORTED) {
    if (body[name] === undefined || body[name] === null || body[name] === false) continue
    throw new RequestError(`This server has no ${name}.`, name)
  }
  if (body.n !== undefined && body.n !== 1) throw new RequestError(`n must be 1, not ${shown(body.n)}.`, 'n')
  const options = body.stream_options ?? {}
  if (!isObject(options)) throw new RequestError('stream_options must be an object.', 'stream_options')
  const most = Number.MAX_SAFE_INTEGER
  return {
    history: historyOf(messages),
    stream: flagOf(body, 'stream'),
    includeUsage: flagOf(options, 'include_usage'),
    maxTokens: numberOf(body, 'max_completion_tokens', 1, most, true) ?? numberOf(body, 'max_tokens', 1, most, true),
    temperature: numberOf(body, 'temperature', 0, 2, false) ?? 1,
    seed: numberOf(body, 'seed', 0, 2 ** 32 - 1, true),
    stop: stopsOf(body.stop),
    tenant: tenantOf(body.user),
  }
}
