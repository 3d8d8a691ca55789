/** A stretch of work cut into phases by a clock that counts for the whole process: each lap goes to the phase that it ends. */

/** What an onboard consists of, in order: what is kvtier's, and what is the engine's. */
export const PHASES = {
  match: { name: 'match', outside: true },
  load: { name: 'blocks to host memory', outside: true },
  image: { name: 'verify and build the image', outside: true },
  engineLoad: { name: "the engine's load", outside: false },
  rest: { name: 'what is left', outside: true },
  evaluate: { name: 'evaluate the rest', outside: false },
} as const
/** One of {@link PHASES}. */
export type PhaseName = keyof typeof PHASES

/** All of them, in order. */
export const PHASE_NAMES = Object.keys(PHASES) as readonly PhaseName[]

/** Seconds of every phase. */
export type PhaseSeconds = Readonly<Record<PhaseName, number>>

/** Seconds of all phases, or of those that are not the engine's. */
export function secondsOf(phases: PhaseSeconds, outsideOnly = false): number {
  return PHASE_NAMES.filter((name) => !outsideOnly || PHASES[name].outside).reduce((sum, name) => sum + phases[name], 0)
}

/** Takes the laps. */
export class PhaseClock {
  readonly #clock: () => number
  #seconds: Record<PhaseName, number> | null = null
  #last = 0

  /** @param clock - seconds */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  /** Begins a run; laps before it count for nothing. */
  start(): void {
    this.#seconds = { match: 0, load: 0, image: 0, engineLoad: 0, rest: 0, evaluate: 0 }
    this.#last = this.#clock()
  }

  /** What was since the last lap was of this phase. */
  lap(phase: PhaseName): void {
    if (this.#seconds === null) return
    const now = this.#clock()
    this.#seconds[phase] += now - this.#last
    this.#last = now
  }

  /** Ends a run, the last lap being of this phase. */
  end(phase: PhaseName): PhaseSeconds {
    this.lap(phase)
    const seconds = this.#seconds
    if (seconds === null) throw new Error('No run of phases has begun.')
    this.#seconds = null
    return seconds
  }
}
