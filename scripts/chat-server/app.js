/**
 * The endpoint: Fastify routes in front of a `ChatEngine`, in the shapes that clients of OpenAI's chat API know.
 *
 * Headers of an answer say how many of its prompt's tokens came from where: x-kvtier-prompt-tokens is the sum of -kept (the
 * sequence had them), -host and -disk (kvtier brought them) and -evaluated (the engine computed them).
 */
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { loadFastify } from '../engine-packages.js'
import { RequestError, readChatRequest } from './chat-request.js'
import { ClosingError, QueueFullError } from './fair-queue.js'

/** @typedef {import('./chat-engine.js').ChatAnswer} ChatAnswer */
/** @typedef {import('./chat-engine.js').PromptTokens} PromptTokens */
/** @typedef {import('fastify').FastifyReply} FastifyReply */

const MiB = 1024 * 1024
const BODY_LIMIT = 4 * MiB
/** What a client that went away would have been told; it is only seen in logs. */
const CLIENT_GONE = 499

/** The client closed its connection. */
class ClientGoneError extends Error {}

/** @param {PromptTokens} tokens @returns {Record<string, string>} */
function headersOf(tokens) {
  return Object.fromEntries([
    ['x-kvtier-prompt-tokens', String(tokens.prompt)],
    ...['kept', 'host', 'disk', 'evaluated'].map((name) => [
      `x-kvtier-${name}`,
      String(tokens[/** @type {keyof PromptTokens} */ (name)]),
    ]),
  ])
}

/** @param {ChatAnswer} answer */
function usageOf({ tokens, answerTokens }) {
  return {
    prompt_tokens: tokens.prompt,
    completion_tokens: answerTokens,
    total_tokens: tokens.prompt + answerTokens,
    prompt_tokens_details: { cached_tokens: tokens.prompt - tokens.evaluated },
  }
}

/** @param {unknown} error @returns {{ status: number, body: object }} */
function errorOf(error) {
  const message = error instanceof Error ? error.message : String(error)
  const of = (/** @type {string} */ type, /** @type {string | null} */ param = null) => ({
    error: { message, type, param, code: null },
  })
  if (error instanceof RequestError) return { status: error.status, body: of('invalid_request_error', error.parameter) }
  if (error instanceof QueueFullError) return { status: 429, body: of('server_busy') }
  if (error instanceof ClosingError) return { status: 503, body: of('server_closing') }
  if (error instanceof ClientGoneError) return { status: CLIENT_GONE, body: of('client_gone') }
  // Fastify's own: not JSON, too large, and the like.
  const status = /** @type {{ statusCode?: number }} */ (error)?.statusCode ?? 500
  return { status, body: of(status < 500 ? 'invalid_request_error' : 'server_error') }
}

/** A signal that fires when the client closes its connection before it has an answer. @param {FastifyReply} reply */
function clientSignal(reply) {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new ClientGoneError('The client closed its connection.'))
  })
  return controller.signal
}

/** The chunks of one streamed answer, as events. */
class EventStream {
  /** The events as they come. */
  readable = new Readable({ read() {} })
  #head

  /** @param {string} model */
  constructor(model) {
    this.#head = {
      id: `chatcmpl-${randomUUID()}`,
      object: 'chat.completion.chunk',
      created: Math.floor(Date.now() / 1000),
      model,
    }
    this.delta({ role: 'assistant', content: '' })
  }

  /** @param {object | string} data */
  #push(data) {
    if (!this.readable.destroyed)
      this.readable.push(`data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
  }

  /** @param {object} delta @param {string | null} [finish] */
  delta(delta, finish = null) {
    this.#push({ ...this.#head, choices: [{ index: 0, delta, finish_reason: finish }] })
  }

  /** @param {ChatAnswer} answer @param {boolean} includeUsage */
  end(answer, includeUsage) {
    this.delta({}, answer.finish)
    if (includeUsage) this.#push({ ...this.#head, choices: [], usage: usageOf(answer) })
    this.#push('[DONE]')
    this.readable.push(null)
  }

  /** @param {unknown} error */
  fail(error) {
    this.#push(errorOf(error).body)
    this.readable.push(null)
  }
}

/**
 * The routes. The engine stays the caller's: close the app first, then the engine.
 *
 * @param {import('./chat-engine.js').ChatEngine} engine
 * @param {{ model: string }} options - the name of the model
 * @returns {Promise<import('fastify').FastifyInstance>}
 */
export async function createApp(engine, { model }) {
  const { fastify } = await loadFastify()
  const app = fastify({ bodyLimit: BODY_LIMIT, logger: false })

  // A connection whose answer was under way when the end began would be kept for the client's next request.
  let isClosing = false
  app.addHook('preClose', (done) => {
    isClosing = true
    done()
  })
  app.addHook('onResponse', (request, _reply, done) => {
    if (isClosing) request.raw.socket.destroySoon()
    done()
  })
  app.setErrorHandler((error, _request, reply) => {
    const { status, body } = errorOf(error)
    if (status === 429 || status === 503) reply.header('retry-after', '1')
    return reply.code(status).send(body)
  })
  app.setNotFoundHandler((request, reply) => {
    const { body } = errorOf(new RequestError(`There is no ${request.method} ${request.url}.`))
    return reply.code(404).send(body)
  })

  app.get('/healthz', () => ({ status: 'ok' }))
  app.get('/v1/models', () => ({
    object: 'list',
    data: [{ id: model, object: 'model', created: 0, owned_by: 'local' }],
  }))
  app.get('/stats', () => engine.stats())

  app.post('/v1/chat/completions', async (request, reply) => {
    const chat = readChatRequest(request.body, model)
    const signal = clientSignal(reply)
    if (chat.stream) return await stream(reply, chat, signal)
    const answer = await engine.answer(chat, signal)
    return reply.headers(headersOf(answer.tokens)).send({
      id: `chatcmpl-${randomUUID()}`,
      object: 'chat.completion',
      created: Math.floor(Date.now() / 1000),
      model,
      choices: [{ index: 0, message: { role: 'assistant', content: answer.text }, finish_reason: answer.finish }],
      usage: usageOf(answer),
    })
  })

  /**
   * Sends headers with the answer's first token: where the prompt came from is known by then. What fails before that is
   * told with its own status, what fails later in the stream.
   *
   * @param {FastifyReply} reply
   * @param {import('./chat-request.js').ChatRequest} chat
   * @param {AbortSignal} signal
   */
  async function stream(reply, chat, signal) {
    const events = new EventStream(model)
    /** @type {(tokens: PromptTokens) => void} */
    let onStart = () => {}
    /** @type {Promise<PromptTokens>} */
    const started = new Promise((resolve) => {
      onStart = resolve
    })
    const answering = engine.answer(chat, signal, { onStart, onText: (content) => events.delta({ content }) })
    answering.then(
      (answer) => events.end(answer, chat.includeUsage),
      (error) => events.fail(error),
    )
    const tokens = await Promise.race([started, answering.then((answer) => answer.tokens)])
    return reply
      .headers({
        ...headersOf(tokens),
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache',
      })
      .send(events.readable)
  }

  return app
}
