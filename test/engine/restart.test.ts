/**
 * What survives SIGKILL: the chat demo's own server, a process of its own, is killed, and another one opens its disk tier.
 */

import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_TOKENS_PER_BLOCK } from '../../lib/connectors/node-llama-cpp/describe.js'
import { message, systemPrompt } from '../../scripts/chat-demo/conversations.js'
import type { Answer, Exchange, Mode, Task } from '../../scripts/chat-demo/messages.js'
import { ServerProcess } from '../../scripts/chat-demo/server-process.js'
import { modelPath } from '../../scripts/models/cache.js'
import { withDirectory } from '../support/manager.js'

const BLOCK = DEFAULT_TOKENS_PER_BLOCK
const SIZES = { users: 1, turns: 3, system: 512, message: 120, answer: 32 }
const MESSAGES = [0, 1, 2].map((turn) => message(SIZES, 0, turn))

let model = ''
const servers: ServerProcess[] = []

beforeAll(() => {
  model = modelPath('tiny')
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.kill()))
})

/** A server in a process of its own. Each token is computed in a batch of its own, so that answers can be compared. */
async function start(mode: Mode, directory: string): Promise<ServerProcess> {
  const task: Task = {
    mode,
    model,
    batch: 1,
    contextSize: 2048,
    directory: join(directory, 'kv'),
    system: systemPrompt(SIZES),
  }
  return await ServerProcess.start(task, (server) => servers.push(server))
}

/** Asks the next message of the conversation, and adds the answer to it. */
async function say(server: ServerProcess, conversation: Exchange[]): Promise<Answer> {
  const text = MESSAGES[conversation.length]!
  const answer = await server.ask(
    { type: 'prompt', earlier: [...conversation], message: text, answerTokens: SIZES.answer },
    'answer',
  )
  conversation.push({ message: text, answer: answer.text })
  return answer
}

/** Two turns, saved, in a process that is still there. */
async function twoTurns(directory: string): Promise<{ server: ServerProcess; conversation: Exchange[]; had: number }> {
  const server = await start('kvtier', directory)
  const conversation: Exchange[] = []
  await say(server, conversation)
  const { prompt } = await say(server, conversation)
  const { held, failures } = await server.ask({ type: 'idle' }, 'idle')
  expect(failures).toEqual([])
  expect(held.disk).toBeGreaterThan(0)
  // The last token of an answer is never evaluated.
  return { server, conversation, had: prompt + SIZES.answer - 1 }
}

/** The third turn of a conversation by a server that computes all of it. */
async function recomputed(conversation: readonly Exchange[], directory: string): Promise<Answer> {
  const answer = await say(await start('reset', directory), [...conversation])
  expect(answer.evaluated).toBe(answer.prompt)
  return answer
}

function expectOnlyNew(answer: Answer, expected: Answer, had: number, when: string): void {
  const news = answer.prompt - had
  process.stdout.write(
    `${when}: a prompt of ${answer.prompt} tokens, ${had} of them known, ${news} new: evaluated ${answer.evaluated}, ` +
      `from disk ${answer.disk}\n`,
  )
  expect(answer.evaluated).toBeLessThan(news + BLOCK)
  expect(answer.disk).toBe(answer.prompt - answer.evaluated)
  expect(answer.text).toBe(expected.text)
}

describe('the first request of a known conversation evaluates only its new tokens and less than a block', () => {
  test('after the server was killed with its last turn saved', async () => {
    await withDirectory(async (directory) => {
      const { server, conversation, had } = await twoTurns(directory)
      await server.kill()
      const expected = await recomputed(conversation, directory)
      const answer = await say(await start('kvtier', directory), conversation)
      expectOnlyNew(answer, expected, had, 'killed after a turn')
    })
  })

  test('after it was killed in the middle of the next turn', async () => {
    await withDirectory(async (directory) => {
      const { server, conversation, had } = await twoTurns(directory)
      const expected = await recomputed(conversation, directory)
      const cutOff = say(server, [...conversation])
      const lost = expect(cutOff).rejects.toThrow(/SIGKILL/)
      await server.kill()
      await lost
      const answer = await say(await start('kvtier', directory), conversation)
      expectOnlyNew(answer, expected, had, 'killed in a turn')
    })
  })
})
