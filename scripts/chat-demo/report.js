/**
 * What the demo found: sums, the comparison of answers, and the table. Pure functions.
 */
import { MODES } from './run.js'

/** @typedef {import('./run.js').ServerRun} ServerRun */
/** @typedef {import('./messages.js').Answer} Answer */
/**
 * What a server did in some turns. `firstTokenMs`: the median.
 *
 * @typedef {{ prompt: number, evaluated: number, host: number, disk: number, firstTokenMs: number }} Figures
 */
/** An answer that is not the one of the first server. @typedef {{ server: string, turn: number, user: number }} Difference */
/**
 * The demo's result; what --json prints.
 *
 * @typedef {{ users: number, turns: number, batch: number, model: string, identical: boolean, compared: number,
 *   differences: Difference[], failures: string[],
 *   servers: { name: string, before: Figures, after: Figures, held: import('./messages.js').HeldBytes }[] }} Result
 */

/** @param {readonly number[]} values @returns {number} */
function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

/** @param {readonly Answer[]} answers @returns {Figures} */
export function figuresOf(answers) {
  const sum = (/** @type {'prompt' | 'evaluated' | 'host' | 'disk'} */ field) =>
    answers.reduce((total, answer) => total + answer[field], 0)
  return {
    prompt: sum('prompt'),
    evaluated: sum('evaluated'),
    host: sum('host'),
    disk: sum('disk'),
    firstTokenMs: Number(median(answers.map(({ firstTokenMs }) => firstTokenMs)).toFixed(1)),
  }
}

/**
 * Every answer of the other servers that is not, character by character, the first server's.
 *
 * @param {readonly ServerRun[]} runs
 * @returns {{ compared: number, differences: Difference[] }}
 */
export function compareAnswers([reference, ...others]) {
  /** @type {Difference[]} */
  const differences = []
  let compared = 0
  for (const { mode, answers } of others) {
    for (const [turn, row] of answers.entries()) {
      for (const [user, { text }] of row.entries()) {
        compared += 1
        if (text !== reference?.answers[turn]?.[user]?.text) {
          differences.push({ server: MODES[mode], turn: turn + 1, user: user + 1 })
        }
      }
    }
  }
  return { compared, differences }
}

/**
 * @param {readonly ServerRun[]} runs
 * @param {{ users: number, turns: number, batch: number, model: string }} setting
 * @returns {Result}
 */
export function resultOf(runs, setting) {
  const { compared, differences } = compareAnswers(runs)
  return {
    ...setting,
    identical: differences.length === 0,
    compared,
    differences,
    failures: runs.flatMap(({ failures }) => failures),
    servers: runs.map(({ mode, answers, held }) => ({
      name: MODES[mode],
      before: figuresOf(answers.slice(0, -1).flat()),
      after: figuresOf(answers.slice(-1).flat()),
      held,
    })),
  }
}

/** @param {string} title @returns {{ title: string, align?: 'right' }[]} */
function columns(title) {
  const numbers = ['prompt tokens', 'evaluated', 'of (b)', 'first token', 'held in host', 'held on disk']
  return [
    { title },
    ...numbers.map((name) => ({ title: name, align: /** @type {const} */ ('right') })),
    { title: 'answers' },
  ]
}

/**
 * The result in words and a table, ending with a newline.
 *
 * @param {Result} result
 * @param {typeof import('../../lib/cli/table.ts')} table
 * @param {typeof import('../../lib/cli/format.ts')} format
 * @returns {string}
 */
export function renderResult(result, table, format) {
  const { turns, servers, users } = result
  const [reference, reuse] = servers
  const rows = (/** @type {'before' | 'after'} */ part) =>
    servers.map((server) => {
      const { name, [part]: figures } = server
      const differ = result.differences.filter(
        (difference) => difference.server === name && (difference.turn === turns) === (part === 'after'),
      ).length
      const held = (/** @type {number} */ bytes) => (bytes === 0 || part === 'after' ? '' : format.formatBytes(bytes))
      return [
        name,
        format.formatCount(figures.prompt),
        format.formatCount(figures.evaluated),
        (figures.evaluated / (reuse?.[part].evaluated ?? 1)).toFixed(2),
        format.formatDuration(figures.firstTokenMs),
        held(server.held.host),
        held(server.held.disk),
        server === reference ? 'compared with' : differ === 0 ? 'identical' : `${differ} differ`,
      ]
    })
  const first = turns > 2 ? `turns 1 to ${turns - 1}` : 'turn 1'
  const last = `turn ${turns}, after kill -9 and a restart`
  const all = servers.at(-1)
  const sum = (/** @type {'host' | 'disk'} */ tier) =>
    format.formatCount((all?.before[tier] ?? 0) + (all?.after[tier] ?? 0))
  const lines = [
    table.renderTable(columns(first), [...rows('before'), [], [last], ...rows('after')]),
    `${users} users in turn on one sequence, with one system prompt. First token: the median of the requests.`,
    `Tokens that kvtier brought back: ${sum('host')} from host memory, ${sum('disk')} from disk.`,
    ...result.failures.map((failure) => `kvtier told of a failure: ${failure}`),
    `answers identical: ${result.identical ? 'yes' : 'NO'}`,
    `  compared: the texts of all ${format.formatCount(result.compared)} answers of (b) and (c) with those of (a), at temperature 0`,
    explanation(result),
    ...result.differences.map(({ server, turn, user }) => `  ${server}: turn ${turn}, user ${user} got another answer`),
  ]
  return `${lines.join('\n')}\n`
}

/** What makes answers comparable at all. @param {Result} result @returns {string} */
function explanation({ batch, identical }) {
  if (batch === 1) {
    return '  each token was computed in a batch of its own: in larger ones (--batch N) an engine rounds otherwise, with or without kvtier'
  }
  const advice = identical ? 'no answer turned on it' : 'compare with --batch 1 without that'
  return `  tokens were computed in batches of up to ${batch}, which rounds otherwise wherever a prompt is cut: ${advice}`
}
