/**
 * node-llama-cpp with kvtier behind it: a model, a context of several sequences, a block manager, and who may use which
 * sequence when.
 */
import { BlockManager, SHARED } from 'kvtier'
import { bindNodeLlamaCpp, describeNodeLlamaCpp } from 'kvtier/connectors/node-llama-cpp'
import { loadLlama, openCpuEngine } from '../engine-packages.js'
import { RequestError } from './chat-request.js'
import { ClosingError, FairQueue } from './fair-queue.js'

/** @typedef {import('kvtier/connectors/node-llama-cpp').Attachment} Attachment */
/** One sequence, and whose blocks it uses now.
 * @typedef {{ sequence: import('node-llama-cpp').LlamaContextSequence, chat: import('node-llama-cpp').LlamaChat,
 *   attachment: Attachment | null, owner: string | null }} Place
 */
/**
 * `host` and `disk`: bytes of the tiers. `share`: whether all users share blocks. `mostWaiting`: requests that may wait.
 * `threads` and `batchSize` as the engine has them.
 *
 * @typedef {{ modelPath: string, sequences: number, contextSize: number, directory: string, host: number, disk: number,
 *   share: boolean, mostWaiting: number, threads?: number, batchSize?: number }} EngineOptions
 */
/**
 * Where a prompt's tokens came from: they were in the sequence, came from a tier, or were computed.
 *
 * @typedef {{ prompt: number, kept: number, host: number, disk: number, evaluated: number }} PromptTokens
 */
/** @typedef {{ text: string, answerTokens: number, finish: 'stop' | 'length', tokens: PromptTokens }} ChatAnswer */

/** Whose blocks they are where a request names no user. */
const NOBODY = 'whoever names no user'
/** Tokens of an answer where a request names no limit. */
const ANSWER_TOKENS = 256

/** An engine that serves chats; made by `open`. */
export class ChatEngine {
  #parts
  #options
  /** @type {FairQueue<Place>} */
  #queue
  /** @type {Set<Promise<unknown>>} */
  #running = new Set()
  /** One for each request that waits or is being answered. @type {Set<AbortController>} */
  #stops = new Set()
  /** Failures that cost tokens which were computed again, the last ones. @type {string[]} */
  #failures = []

  /** @param {EngineOptions} options @param {Awaited<ReturnType<typeof openParts>>} parts @param {Place[]} places */
  constructor(options, parts, places) {
    this.#options = options
    this.#parts = parts
    this.#queue = new FairQueue(places, options.mostWaiting, ({ owner }, tenant) => owner === tenant)
    parts.cache.on('failed', ({ what, code, message }) => {
      this.#failures.push(`${what}: ${code}: ${message}`)
      if (this.#failures.length > 16) this.#failures.shift()
    })
  }

  /**
   * Loads the model and opens the tiers; what is on disk from an earlier run is used again.
   *
   * @param {EngineOptions} options
   * @returns {Promise<ChatEngine>}
   */
  static async open(options) {
    const parts = await openParts(options)
    const { LlamaChat } = parts.llamaModule
    const places = Array.from({ length: options.sequences }, () => {
      const sequence = parts.context.getSequence()
      return { sequence, chat: new LlamaChat({ contextSequence: sequence }), attachment: null, owner: null }
    })
    return new ChatEngine(options, parts, places)
  }

  /** The cache, for its statistics. */
  stats() {
    const { cache, manager } = this.#parts
    return {
      server: { running: this.#running.size, waiting: this.#queue.waiting, sequences: this.#options.sequences },
      cache: cache.stats(),
      manager: manager.stats(),
      failures: this.#failures,
    }
  }

  /**
   * Answers a request as soon as a sequence is free.
   *
   * @param {import('./chat-request.js').ChatRequest} request
   * @param {AbortSignal} signal - ends it, whether it waits or is being answered
   * @param {{ onStart?: (tokens: PromptTokens) => void, onText?: (text: string) => void }} [listener] - `onStart` comes
   * with the answer's first token
   * @returns {Promise<ChatAnswer>}
   * @throws RequestError for a prompt that does not fit; the errors of `FairQueue`; the signal's reason
   */
  async answer(request, signal, listener = {}) {
    const stop = new AbortController()
    const forward = () => stop.abort(signal.reason)
    if (signal.aborted) forward()
    signal.addEventListener('abort', forward, { once: true })
    this.#stops.add(stop)
    try {
      const owner = request.tenant ?? NOBODY
      const place = await this.#queue.acquire(owner, stop.signal)
      const work = this.#answerAt(place, owner, request, stop.signal, listener)
      this.#running.add(work)
      try {
        return await work
      } catch (error) {
        // After a failure of the engine nobody knows what the sequence has.
        if (!stop.signal.aborted && !(error instanceof RequestError)) await place.sequence.clearHistory()
        throw error
      } finally {
        this.#running.delete(work)
        this.#queue.release(place)
      }
    } finally {
      this.#stops.delete(stop)
      signal.removeEventListener('abort', forward)
    }
  }

  /**
   * @param {Place} place
   * @param {string} owner
   * @param {import('./chat-request.js').ChatRequest} request
   * @param {AbortSignal} signal
   * @param {{ onStart?: (tokens: PromptTokens) => void, onText?: (text: string) => void }} listener
   * @returns {Promise<ChatAnswer>}
   */
  async #answerAt(place, owner, request, signal, listener) {
    const { chat, sequence } = place
    const prompt = this.#promptTokens(chat, request)
    const maxTokens = request.maxTokens ?? Math.min(ANSWER_TOKENS, sequence.contextSize - prompt)
    const attachment = await this.#attach(place, owner)
    const before = attachment.last
    const meter = sequence.tokenMeter.getState()
    /** @type {PromptTokens | null} */
    let tokens = null
    const start = () => {
      tokens = promptTokensOf(prompt, attachment.last === before ? null : attachment.last)
      listener.onStart?.(tokens)
    }
    const { response, metadata } = await chat.generateResponse(request.history, {
      signal,
      temperature: request.temperature,
      maxTokens,
      ...(request.seed === null ? {} : { seed: request.seed }),
      customStopTriggers: request.stop,
      onToken: () => {
        if (tokens === null) start()
      },
      onTextChunk: (text) => {
        if (tokens === null) start()
        listener.onText?.(text)
      },
    })
    if (tokens === null) start()
    return {
      text: response,
      answerTokens: sequence.tokenMeter.diff(meter).usedOutputTokens,
      finish: metadata.stopReason === 'maxTokens' ? 'length' : 'stop',
      tokens: /** @type {PromptTokens} */ (/** @type {unknown} */ (tokens)),
    }
  }

  /** How many tokens a prompt has. A longer one would be cut by the engine, and answered without what it began with.
   *
   * @param {import('node-llama-cpp').LlamaChat} chat
   * @param {import('./chat-request.js').ChatRequest} request
   */
  #promptTokens(chat, { history, maxTokens }) {
    const { contextText } = chat.chatWrapper.generateContextState({
      chatHistory: [...history, { type: 'model', response: [] }],
    })
    const prompt = contextText.tokenize(this.#parts.model.tokenizer).length
    const { contextSize } = chat.sequence
    if (prompt + (maxTokens ?? 1) <= contextSize) return prompt
    throw new RequestError(
      `The messages have ${prompt} tokens${maxTokens === null ? '' : `, and max_tokens is ${maxTokens}`}: more than the ` +
        `${contextSize} of a context.`,
      'messages',
    )
  }

  /**
   * Makes a sequence use the blocks of whoever asks. What it has of somebody else is stored for them and then cleared:
   * no user's prompt is found, or found faster, because of another's.
   *
   * @param {Place} place
   * @param {string} owner
   * @returns {Promise<Attachment>}
   */
  async #attach(place, owner) {
    const { cache } = this.#parts
    const { sequence } = place
    const tenant = this.#options.share ? SHARED : owner
    if (place.attachment !== null && (this.#options.share || place.owner === owner)) {
      place.owner = owner
      return place.attachment
    }
    if (place.attachment !== null) {
      await cache.offload(sequence)
      place.attachment.detach()
      place.attachment = null
      await sequence.clearHistory()
    }
    place.owner = owner
    place.attachment = cache.attach(sequence, { tenant })
    return place.attachment
  }

  /**
   * Ends in order: nobody new is served, who waits is told so, who is being answered has `graceMs` to come to an end; then
   * what is new is written to disk and everything is closed.
   *
   * @param {number} graceMs
   */
  async close(graceMs) {
    this.#queue.close()
    const timer = setTimeout(() => {
      for (const stop of this.#stops) stop.abort(new ClosingError('The server is about to end.'))
    }, graceMs)
    await Promise.allSettled([...this.#running])
    clearTimeout(timer)
    await closeParts(this.#parts)
  }
}

/** @param {number} prompt @param {import('kvtier/connectors/node-llama-cpp').PromptReport | null} report @returns {PromptTokens} */
function promptTokensOf(prompt, report) {
  if (report === null) return { prompt, kept: 0, host: 0, disk: 0, evaluated: prompt }
  const { kept, byTier } = report
  return { prompt, kept, ...byTier, evaluated: prompt - kept - byTier.host - byTier.disk }
}

/** @param {EngineOptions} options */
async function openParts(options) {
  const llamaModule = await loadLlama()
  const llama = await openCpuEngine()
  const model = await llama.loadModel({ modelPath: options.modelPath })
  const context = await model.createContext({
    contextSize: options.contextSize,
    sequences: options.sequences,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.batchSize === undefined ? {} : { batchSize: options.batchSize }),
  })
  const manager = await BlockManager.open({
    ...(await describeNodeLlamaCpp({ model, context })),
    host: { capacityBytes: options.host },
    disk: { directory: options.directory, capacityBytes: options.disk },
  })
  const cache = await bindNodeLlamaCpp(manager, { model, context })
  return { llamaModule, llama, model, context, manager, cache }
}

/** What uses something is closed before it. @param {Awaited<ReturnType<typeof openParts>>} parts */
async function closeParts({ llama, model, context, manager, cache }) {
  await cache.close()
  await manager.close({ flush: true })
  await context.dispose()
  await model.dispose()
  await llama.dispose()
}
