/** Medians and spreads of a few numbers. Pure functions. */

/** The middle of some numbers and how far they spread. */
export interface Spread {
  readonly median: number
  readonly p10: number
  readonly p90: number
}

/**
 * The value below which a share of the numbers lies, interpolated between neighbours; NaN for no numbers.
 *
 * @param share - 0 to 1
 */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below + (above - below) * (at - Math.floor(at))
}

/** Half of the numbers lie below it. */
export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5)
}

/** Median, 10th and 90th percentile. */
export function spreadOf(numbers: readonly number[]): Spread {
  return { median: median(numbers), p10: quantile(numbers, 0.1), p90: quantile(numbers, 0.9) }
}
