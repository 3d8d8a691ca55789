/**
 * The part of the seam that only test builds have: `native/binding/testing_calls.cc` mounts the same names in the same
 * order as `testing`.
 */
/** Faults of the test build, all seeded. Chances are 0 to 1 a call; a call has one fault at most. */
export interface FaultProfile {
  readonly seed: number
  readonly readError?: number
  readonly writeError?: number
  /** Writes fail with ENOSPC. */
  readonly writeNoSpace?: number
  readonly shortRead?: number
  readonly shortWrite?: number
  /** Flips one bit of what was read. */
  readonly readFlip?: number
  /** Writes a flipped bit and reports success. */
  readonly writeFlip?: number
  /** Reports success and writes nothing. */
  readonly lostWrite?: number
  /** Writes to a wrong place (4 KiB further) and reports success. */
  readonly misdirectedWrite?: number
  /** Fails exactly the n-th call (1-based) of any kind with EIO; 0 = none. */
  readonly failCall?: number
}

/** Faults and holds of the whole process, and the simulated driver's controls. An environment that ends releases what it held itself. */
export interface TestingBinding {
  /** null takes the faults away. */
  setFaults(profile: FaultProfile | null): void
  /** I/O calls since the last setFaults. */
  ioCalls(): number
  /** Faults injected since the last setFaults. */
  faultsInjected(): number
  /** Blocks every I/O call from now on, until `releaseIo`. */
  holdIo(): void
  /** Calls that wait now. */
  heldIo(): number
  releaseIo(): void
  /** Fails inside, as the standard library or Node-API may in any call: a length, memory, a call of the API. */
  failWith(way: 'length' | 'memory' | 'api'): void
  /** From now on the simulated driver runs nothing that is queued, until `simRelease`. */
  simHold(): void
  simRelease(): void
  /** Calls nth to nth + times - 1 of a function of the simulated driver (null: of any) fail; times 0: without end. */
  simFailCall(name: string | null, nth: number, code: number, times: number): void
  /** The nth piece of queued work that starts fails, and its device with it. */
  simFailWork(nth: number, code: number): void
  /** What was planned to fail and has not does not. */
  simFailNothing(): void
  simLoseDevice(ordinal: number, code: number): void
  /** Calls of a function so far; null: of all. */
  simCalls(name: string | null): number
  /** "allocations", "streams", "events", "registrations" and others that are alive; see the simulator's sim_control.h. */
  simCount(what: string): number
  /** What no correct program does and was done since the last call. */
  simViolations(): string[]
  /** False in the build whose verification is compiled out. */
  readonly verifies: boolean
}
