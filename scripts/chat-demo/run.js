/**
 * The demo's run: the same turns by three servers, one after the other. Each is killed with SIGKILL before the last turn,
 * and started again for it.
 */
import { message, systemPrompt } from './conversations.js'
import { ServerProcess } from './server-process.js'

/** @typedef {import('./messages.js').Mode} Mode */
/** @typedef {import('./messages.js').Answer} Answer */
/** @typedef {import('./messages.js').HeldBytes} HeldBytes */
/** @typedef {import('./conversations.js').Sizes} Sizes */
/**
 * What a server did. `answers`: by turn, then by user. `held`: bytes in the tiers after the last turn but one, before the
 * kill. `failures`: what kvtier told of.
 *
 * @typedef {{ mode: Mode, answers: Answer[][], held: HeldBytes, failures: string[] }} ServerRun
 */

/** The servers by name, in the order in which they run. */
export const MODES = /** @type {const} */ ({
  reset: '(a) reset per request',
  reuse: '(b) own prefix reuse',
  kvtier: '(c) kvtier',
})

/**
 * One conversation's earlier turns.
 *
 * @param {Sizes} sizes
 * @param {readonly Answer[][]} answers
 * @param {number} user
 * @param {number} turn
 */
function earlierOf(sizes, answers, user, turn) {
  return Array.from({ length: turn }, (_, before) => ({
    message: message(sizes, user, before),
    answer: answers[before]?.[user]?.text ?? '',
  }))
}

/**
 * Serves every turn of every user round robin.
 *
 * @param {Mode} mode
 * @param {Omit<import('./messages.js').Task, 'mode' | 'system' | 'contextSize'>} where
 * @param {Sizes} sizes
 * @param {import('./progress.js').Progress} progress
 * @param {(server: ServerProcess) => void} onStart
 * @returns {Promise<ServerRun>}
 */
export async function runServer(mode, where, sizes, progress, onStart) {
  const system = systemPrompt(sizes)
  // A character is a token at most; beside texts a turn has a few control tokens.
  const contextSize = Math.ceil((sizes.system + sizes.turns * (sizes.message + sizes.answer + 64)) / 256) * 256
  const task = { ...where, mode, system, contextSize }
  /** @type {Answer[][]} */
  const answers = []
  /** @type {{ held: HeldBytes, failures: string[] }} */
  let end = { held: { host: 0, disk: 0 }, failures: [] }
  const name = MODES[mode]

  /** @param {ServerProcess} server @param {number} turn */
  const serveTurn = async (server, turn) => {
    /** @type {Answer[]} */
    const row = []
    answers.push(row)
    for (let user = 0; user < sizes.users; user += 1) {
      progress.step(`${name}: turn ${turn + 1} of ${sizes.turns}, user ${user + 1} of ${sizes.users}`)
      const earlier = earlierOf(sizes, answers, user, turn)
      const text = message(sizes, user, turn)
      row.push(await server.ask({ type: 'prompt', earlier, message: text, answerTokens: sizes.answer }, 'answer'))
    }
  }

  progress.phase(`${name}: ${sizes.users} users, ${sizes.turns - 1} turns`)
  let server = await ServerProcess.start(task, onStart)
  for (let turn = 0; turn < sizes.turns - 1; turn += 1) await serveTurn(server, turn)
  const { held, failures } = await server.ask({ type: 'idle' }, 'idle')
  end = { held, failures }
  await server.kill()

  progress.phase(`${name}: killed with SIGKILL; the last turn, by a new process`)
  server = await ServerProcess.start(task, onStart)
  await serveTurn(server, sizes.turns - 1)
  end.failures.push(...(await server.ask({ type: 'idle' }, 'idle')).failures)
  await server.kill()
  return { mode, answers, ...end }
}
