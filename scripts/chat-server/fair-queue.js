/**
 * Who is served next when all sequences are busy: tenants take turns, each with its oldest request first, so that one who
 * asks much makes nobody else wait longer. A sequence goes to the tenant whose conversation it still has, where it can.
 */

/** More requests wait than may. */
export class QueueFullError extends Error {}
/** The server is about to end. */
export class ClosingError extends Error {}

/**
 * What a request waits for: T is a place to be served at.
 *
 * @template T
 * @typedef {{ resolve: (place: T) => void, reject: (error: unknown) => void }} Waiting
 */

/**
 * Places that requests take and give back.
 *
 * @template T
 */
export class FairQueue {
  /** @type {T[]} */
  #free
  /** @type {Map<string, Waiting<T>[]>} */
  #waiting = new Map()
  #mostWaiting
  #count = 0
  #isClosing = false
  #prefers

  /**
   * @param {readonly T[]} places
   * @param {number} mostWaiting
   * @param {(place: T, tenant: string) => boolean} prefers - whether a tenant is better served at this free place
   */
  constructor(places, mostWaiting, prefers) {
    this.#free = [...places]
    this.#mostWaiting = mostWaiting
    this.#prefers = prefers
  }

  /** How many requests wait. */
  get waiting() {
    return this.#count
  }

  /**
   * Waits for a place; whoever gets one calls `release`.
   *
   * @param {string} tenant
   * @param {AbortSignal} signal - gives up waiting
   * @returns {Promise<T>}
   * @throws QueueFullError, ClosingError, or the signal's reason
   */
  async acquire(tenant, signal) {
    signal.throwIfAborted()
    if (this.#isClosing) throw new ClosingError('The server is about to end.')
    if (this.#free.length > 0) return this.#take(tenant)
    if (this.#count >= this.#mostWaiting) throw new QueueFullError(`${this.#count} requests wait already.`)
    return await new Promise((resolve, reject) => {
      const give = () => {
        if (this.#remove(tenant, waiting)) reject(signal.reason)
      }
      /** @type {Waiting<T>} */
      const waiting = {
        resolve: (place) => {
          signal.removeEventListener('abort', give)
          resolve(place)
        },
        reject: (error) => {
          signal.removeEventListener('abort', give)
          reject(error)
        },
      }
      signal.addEventListener('abort', give, { once: true })
      const line = this.#waiting.get(tenant)
      if (line === undefined) this.#waiting.set(tenant, [waiting])
      else line.push(waiting)
      this.#count += 1
    })
  }

  /** Gives a place back: the next tenant's oldest request gets it. @param {T} place */
  release(place) {
    this.#free.push(place)
    const next = this.#waiting.entries().next()
    if (next.done) return
    const [tenant, line] = next.value
    const waiting = line[0]
    if (waiting === undefined) return
    this.#remove(tenant, waiting)
    // Its other requests come after those of the tenants that wait now.
    if (this.#waiting.delete(tenant)) this.#waiting.set(tenant, line)
    waiting.resolve(this.#take(tenant))
  }

  /** Nobody gets a place any more; who waits is told so. */
  close() {
    this.#isClosing = true
    const all = [...this.#waiting.values()].flat()
    this.#waiting.clear()
    this.#count = 0
    for (const { reject } of all) reject(new ClosingError('The server is about to end.'))
  }

  /** @param {string} tenant @returns {T} */
  #take(tenant) {
    const preferred = this.#free.findIndex((place) => this.#prefers(place, tenant))
    // The one that has been free for longest is the first.
    const [place] = this.#free.splice(Math.max(0, preferred), 1)
    return /** @type {T} */ (place)
  }

  /** @param {string} tenant @param {Waiting<T>} waiting @returns {boolean} whether it was still there */
  #remove(tenant, waiting) {
    const line = this.#waiting.get(tenant)
    const at = line?.indexOf(waiting) ?? -1
    if (line === undefined || at < 0) return false
    line.splice(at, 1)
    this.#count -= 1
    if (line.length === 0) this.#waiting.delete(tenant)
    return true
  }
}
