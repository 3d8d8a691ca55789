/**
 * Rounds: subjects and limits in turns, so that whatever else the machine does meets all of them alike, and the ratios of
 * each round instead of the ratio of two averages.
 */
import { median, spreadOf } from './statistics.js'
import type { Aim, BenchResult, Group, Measure, Row, Sample, SuiteName } from './types.js'

/**
 * Runs the measures `count` times after one warm-up, every second time in the reverse order.
 *
 * @param onRound - called after each round with how many are done
 * @returns one sample a round, the measures' samples put together
 */
export async function runRounds(
  measures: readonly Measure[],
  count: number,
  onRound: (done: number) => void = () => undefined,
): Promise<Sample[]> {
  const samples: Sample[] = []
  for (let round = -1; round < count; round++) {
    const order = round % 2 === 0 ? measures : measures.toReversed()
    const sample: Record<string, number> = {}
    for (const measure of order) Object.assign(sample, await measure(round))
    if (round >= 0) samples.push(sample)
    onRound(round + 1)
  }
  return samples
}

function valuesOf(samples: readonly Sample[], name: string): number[] {
  return samples.map((sample) => {
    const value = sample[name]
    if (value === undefined) throw new Error(`No measure gives a sample named ${name}.`)
    return value
  })
}

/** Whether a row's value or ratio reaches its aim. */
export function reaches(aim: Aim, better: 'higher' | 'lower', value: number, ratio: number | null): boolean {
  const of = aim.of === 'ratio' ? ratio : value
  if (of === null) return false
  return better === 'higher' ? of >= aim.bound : of <= aim.bound
}

/** The result of one row from the samples of all rounds. */
export function resultOf(suite: SuiteName, row: Row, samples: readonly Sample[]): BenchResult {
  const values = valuesOf(samples, row.subject)
  const limits = row.limit === null ? null : valuesOf(samples, row.limit.sample)
  const ratio = limits === null ? null : spreadOf(values.map((value, round) => value / (limits[round] ?? Number.NaN)))
  const value = row.take === 'largest' ? Math.max(...values) : median(values)
  return {
    suite,
    name: row.name,
    unit: row.unit,
    value,
    limit: row.limit === null || limits === null ? null : { name: row.limit.name, value: median(limits) },
    ratio,
    better: row.better,
    aim: row.aim,
    met: row.aim === null ? null : reaches(row.aim, row.better, value, ratio?.median ?? null),
    n: samples.length,
    parameters: row.parameters,
  }
}

/** Measures an open group. */
export async function runGroup(
  suite: SuiteName,
  group: Group,
  rounds: number,
  onRound?: (done: number) => void,
): Promise<BenchResult[]> {
  const measured = await runRounds(group.measures, rounds, onRound)
  const samples = measured.map((sample) => ({ ...sample, ...group.derive?.(sample) }))
  return group.rows.map((row) => resultOf(suite, row, samples))
}
