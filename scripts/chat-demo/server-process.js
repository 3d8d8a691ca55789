/**
 * The demo's side of a server: starts the child process, asks it one thing at a time, and kills it with SIGKILL.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** @typedef {import('./messages.js').Reply} Reply */

/** A server that ended before it answered, or said that it failed. */
export class ServerError extends Error {}

/** One running server. */
export class ServerProcess {
  #child
  /** @type {{ resolve: (reply: Reply) => void, reject: (error: Error) => void } | null} */
  #waiting = null
  #errors = ''

  /** @param {import('./messages.js').Task} task */
  constructor(task) {
    this.#child = fork(fileURLToPath(new URL('server.js', import.meta.url)), [JSON.stringify(task)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#child.stderr?.on('data', (/** @type {Buffer} */ data) => {
      this.#errors = `${this.#errors}${data}`.slice(-4000)
    })
    this.#child.on('message', (/** @type {Reply} */ reply) => this.#take(reply))
    this.#child.on('exit', (code, signal) => {
      this.#waiting?.reject(new ServerError(`The server ended by ${signal ?? `exit code ${code}`}.\n${this.#errors}`))
      this.#waiting = null
    })
  }

  /** @param {Reply} reply */
  #take(reply) {
    const waiting = this.#waiting
    this.#waiting = null
    if (reply.type === 'failed') waiting?.reject(new ServerError(`The server failed: ${reply.message}`))
    else waiting?.resolve(reply)
  }

  /** @returns {Promise<Reply>} */
  #next() {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  /**
   * Starts a server and waits until it can be asked.
   *
   * @param {import('./messages.js').Task} task
   * @param {(server: ServerProcess) => void} onStart - called at once, for whoever must end it
   * @returns {Promise<ServerProcess>}
   */
  static async start(task, onStart) {
    const server = new ServerProcess(task)
    onStart(server)
    await server.#next()
    return server
  }

  /**
   * @template {Reply['type']} T
   * @param {import('./messages.js').Request} request
   * @param {T} type - of the reply
   * @returns {Promise<Extract<Reply, { type: T }>>}
   */
  async ask(request, type) {
    const reply = this.#next()
    this.#child.send(request)
    const got = await reply
    if (got.type !== type) throw new ServerError(`The server said '${got.type}' where '${type}' was asked for.`)
    return /** @type {Extract<Reply, { type: T }>} */ (got)
  }

  /** Kills it with SIGKILL: nothing of it runs any more when this resolves. */
  async kill() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}
