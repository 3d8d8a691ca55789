/**
 * Waiting for work that a disk may never finish: as long as it goes on, and no longer.
 */

/** The longest that a timer can wait. */
const MOST_MS = 2 ** 31 - 1

/**
 * Waits for work that shows its progress. Work that is given up goes on, without anybody waiting.
 *
 * @param patienceMs - without progress, the work is given up after this long, and at most twice as long
 * @param progress - a number that changes whenever a part of the work has ended
 * @param late - makes what is thrown then
 * @throws what `work` was rejected with, or `late()`
 */
export async function whileItGoesOn<T>(
  work: Promise<T>,
  patienceMs: number,
  progress: () => number,
  late: () => Error,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const stalled = new Promise<never>((_, reject) => {
    const wait = (before: number): void => {
      timer = setTimeout(
        () => {
          const now = progress()
          if (now === before) reject(late())
          else wait(now)
        },
        Math.min(patienceMs, MOST_MS),
      )
    }
    wait(progress())
  })
  try {
    return await Promise.race([work, stalled])
  } finally {
    clearTimeout(timer)
  }
}
