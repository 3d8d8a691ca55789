/** What a benchmark is, and what comes out of it. */
import type { Limits } from './limits.js'
import type { Spread } from './statistics.js'

/** The suites, in the order in which they run. */
export const SUITES = ['micro', 'transfer', 'disk', 'trace', 'engine'] as const
/** One of {@link SUITES}. */
export type SuiteName = (typeof SUITES)[number]
/** What runs where no suite is named: not what takes a quarter of an hour and an engine of 85 MB. */
export const DEFAULT_SUITES: readonly SuiteName[] = ['micro', 'transfer', 'disk', 'trace']

/** Values of one measure in one round, by name. */
export type Sample = Readonly<Record<string, number>>

/** Measures once; what it prepares it does not count. Rounds count from 0; the warm-up is round -1. */
export type Measure = (round: number) => Sample | Promise<Sample>

/** What a row should reach: `better` says whether the ratio (or the value itself) may not be smaller or not be larger. */
export interface Aim {
  readonly of: 'ratio' | 'value'
  readonly bound: number
}

/** A parameter of a row. */
export type Parameters = Readonly<Record<string, string | number | boolean>>

/** One line of the report: which sample it shows, and what that is divided by. */
export interface Row {
  readonly name: string
  /** Of the value and of the limit. */
  readonly unit: string
  /** Name of the subject's sample. */
  readonly subject: string
  /** The limit in words, and the name of its sample; null for a part of something else. */
  readonly limit: { readonly name: string; readonly sample: string } | null
  /** `higher`: the ratio is the share of the limit. `lower`: a cost, the ratio is how many times the limit. */
  readonly better: 'higher' | 'lower'
  readonly aim: Aim | null
  /** The value of a row without a limit: the median of the rounds (default), or the largest, for what may never be more. */
  readonly take?: 'median' | 'largest'
  readonly parameters: Parameters
}

/** Subjects and limits that are measured in turns, and the rows made of them. */
export interface Group {
  readonly rows: readonly Row[]
  readonly measures: readonly Measure[]
  /** What follows from all samples of a round, under names of its own. */
  readonly derive?: (sample: Sample) => Sample
  close(): Promise<void> | void
}

/** Why a group cannot be measured here. */
export interface Skipped {
  readonly skipped: string
}

/** What a group is opened with. */
export interface BenchContext {
  readonly limits: Limits
  /** A directory of our own on the disk to be measured; removed afterwards. */
  readonly directory: string
  /** Processors there are. */
  readonly cores: number
  /** Engine threads of this process, as the engine counts them by default: what may wait for the disk at once. */
  readonly engineThreads: number
  /** How many of them copy at once: one core is the event loop's. */
  readonly copyThreads: number
  /** Few sizes where there are many: a look, not a measurement. */
  readonly quick: boolean
  readonly signal: AbortSignal
}

/** A group before its memory is taken: groups are opened one after the other. */
export interface GroupSpec {
  readonly suite: SuiteName
  readonly name: string
  /** Rounds where none are asked for; 5 at least. */
  readonly rounds: number
  open(context: BenchContext): Promise<Group | Skipped> | Group | Skipped
}

/** One line of the report with its numbers. */
export interface BenchResult {
  readonly suite: SuiteName
  readonly name: string
  readonly unit: string
  /** Of the subject: the median, or the largest where the row takes that. */
  readonly value: number
  /** The limit's name and median. */
  readonly limit: { readonly name: string; readonly value: number } | null
  /** Of the rounds' ratios, subject to limit. */
  readonly ratio: Spread | null
  readonly better: 'higher' | 'lower'
  readonly aim: Aim | null
  /** Whether the median reaches the aim; null without one. */
  readonly met: boolean | null
  /** Rounds. */
  readonly n: number
  readonly parameters: Parameters
}
