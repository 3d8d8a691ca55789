/**
 * How far long work has come: one line on a terminal, rewritten at most ten times a second; nothing anywhere else.
 */
import type { CliContext } from './context.js'
import { formatCount, printable } from './format.js'

const INTERVAL_MS = 100
const ERASE_LINE = '\r\u001b[2K'

/** One piece of long work. */
export interface Progress {
  /** Tells how much is done, in the units of the total; shown if the last time is long enough ago. */
  update(done: number): void
  /** Removes the line; nothing is shown afterwards. */
  end(): void
}

/**
 * Starts to show work.
 *
 * @param label - what is being done, "checking group 0" for example
 * @param total - when the work is done; 0 when that is not known
 */
export function startProgress(
  context: Pick<CliContext, 'stderr' | 'isTty' | 'columns' | 'now'>,
  label: string,
  total: number,
): Progress {
  if (!context.isTty) return { update: () => undefined, end: () => undefined }
  let last = Number.NEGATIVE_INFINITY
  let isShown = false
  let isOver = false
  return {
    update(done) {
      const now = context.now()
      if (isOver || now - last < INTERVAL_MS) return
      last = now
      isShown = true
      const share = total > 0 ? ` of ${formatCount(total)}, ${Math.floor((100 * Math.min(done, total)) / total)} %` : ''
      const line = printable(`${label}: ${formatCount(done)}${share}`)
      // One character less than the width: a full line would scroll some terminals.
      context.stderr.write(`${ERASE_LINE}${[...line].slice(0, Math.max(1, context.columns - 1)).join('')}`)
    },
    end() {
      if (isShown && !isOver) context.stderr.write(ERASE_LINE)
      isOver = true
    },
  }
}
