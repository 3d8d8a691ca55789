/**
 * How far the demo has come: one line on a terminal, rewritten; a line for each phase anywhere else.
 */

const ERASE_LINE = '\r\u001b[2K'

/** Tells on a stream, by default stderr, so that a result on stdout stays alone. */
export class Progress {
  #stream
  #shown = false

  /** @param {NodeJS.WriteStream} [stream] */
  constructor(stream = process.stderr) {
    this.#stream = stream
  }

  /**
   * A phase begins.
   *
   * @param {string} text
   */
  phase(text) {
    if (this.#stream.isTTY) this.step(text)
    else this.#stream.write(`${text}\n`)
  }

  /**
   * A phase has come further; shown on a terminal only.
   *
   * @param {string} text
   */
  step(text) {
    if (!this.#stream.isTTY) return
    // A full line would scroll some terminals.
    this.#stream.write(`${ERASE_LINE}${text.slice(0, Math.max(1, (this.#stream.columns ?? 80) - 1))}`)
    this.#shown = true
  }

  /** Takes the line away. */
  end() {
    if (this.#shown) this.#stream.write(ERASE_LINE)
    this.#shown = false
  }
}
