/**
 * What the demo and its server, a child process, say to each other.
 */

/** The ways to serve. @typedef {'reset' | 'reuse' | 'kvtier'} Mode */
/** What a server is told at its start, as its only argument (JSON).
 * @typedef {{ mode: Mode, model: string, batch: number, contextSize: number, directory: string, system: string }} Task
 */
/** One earlier turn of a conversation. @typedef {{ message: string, answer: string }} Exchange */
/**
 * What a server is asked: to answer a message, given the conversation so far, or to say when nothing is left to save.
 *
 * @typedef {{ type: 'prompt', earlier: readonly Exchange[], message: string, answerTokens: number }
 *   | { type: 'idle' }} Request
 */
/**
 * An answer. `prompt`: tokens of the whole prompt. `evaluated`: of those, tokens that the engine computed. `host` and
 * `disk`: tokens that came from a tier.
 *
 * @typedef {{ type: 'answer', text: string, prompt: number, evaluated: number, host: number, disk: number,
 *   firstTokenMs: number }} Answer
 */
/** Bytes that blocks take in a tier. @typedef {{ host: number, disk: number }} HeldBytes */
/**
 * What a server says.
 *
 * @typedef {{ type: 'ready', description: string } | Answer | { type: 'idle', held: HeldBytes, failures: string[] }
 *   | { type: 'failed', message: string }} Reply
 */

export {}
