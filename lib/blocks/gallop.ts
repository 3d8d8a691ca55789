/** How long a prefix is, by galloping and bisection. */

/**
 * The number of leading indices below `count` for which `has` is true, where it is false for all from some index on.
 * O(log n) calls.
 */
export function gallop(count: number, has: (index: number) => boolean): number {
  let held = 0
  let step = 1
  while (held + step <= count && has(held + step - 1)) {
    held += step
    step *= 2
  }
  let not = Math.min(held + step - 1, count)
  while (held < not) {
    const middle = (held + not) >>> 1
    if (has(middle)) held = middle + 1
    else not = middle
  }
  return held
}
