/**
 * What the cache learns about time: how long the engine computes a token, and how long a token takes to come back. A hit
 * that is slower than computing again is not worth having.
 */

/** Where the slowest of a prefix's blocks come from. */
export type Source = 'host' | 'disk'

/** How much a new figure counts against those before. */
const WEIGHT = 0.3
/** An estimate that stops onboards shrinks by this each time, so that one slow moment does not stop them for ever. */
const FORGET = 0.9
/** Fewer tokens say more about the engine's fixed costs than about its speed. */
const LEAST_TOKENS = 32

/** Milliseconds a token, from what was seen. */
export class Speeds {
  #computeMs: number | null = null
  readonly #onboardMs: Record<Source, number | null> = { host: null, disk: null }

  /** `tokens` were computed in `ms`. */
  computed(tokens: number, ms: number): void {
    if (tokens < LEAST_TOKENS || !(ms > 0)) return
    this.#computeMs = mix(this.#computeMs, ms / tokens)
  }

  /** `tokens` came back in `ms`. */
  onboarded(source: Source, tokens: number, ms: number): void {
    if (tokens < 1 || !(ms > 0)) return
    this.#onboardMs[source] = mix(this.#onboardMs[source], ms / tokens)
  }

  /**
   * Whether loading `loaded` tokens is likely to be slower than computing the `gained` ones that are not there. What is
   * not known yet is tried.
   */
  isSlower(source: Source, loaded: number, gained: number): boolean {
    const { computeMs, onboardMs } = { computeMs: this.#computeMs, onboardMs: this.#onboardMs[source] }
    if (computeMs === null || onboardMs === null) return false
    const slower = onboardMs * loaded > computeMs * gained
    if (slower) this.#onboardMs[source] = onboardMs * FORGET
    return slower
  }

  /** Milliseconds a token, for statistics; null: not seen yet. */
  get figures(): { readonly compute: number | null; readonly host: number | null; readonly disk: number | null } {
    return { compute: this.#computeMs, ...this.#onboardMs }
  }
}

function mix(before: number | null, now: number): number {
  return before === null ? now : before * (1 - WEIGHT) + now * WEIGHT
}
