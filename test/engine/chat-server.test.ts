import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { DEFAULT_TOKENS_PER_BLOCK } from '../../lib/connectors/node-llama-cpp/describe.js'
import { withDirectory } from '../support/manager.js'
import { type ChatServer, MODEL, readAnswer, startExample, withChatServer } from './support/chat-server.js'

const BLOCK = DEFAULT_TOKENS_PER_BLOCK
const SYSTEM = { role: 'system', content: 'You answer the letters that reach a public library. '.repeat(8) }
const QUESTION = { role: 'user', content: 'Which shelf has something on rivers, bridges and clocks?' }
const FIXED = { messages: [SYSTEM, QUESTION], max_tokens: 24, temperature: 0 }

/** The conversation of a body and its answer, with another question. */
function next(body: { messages: readonly object[] }, answer: string): typeof FIXED {
  const question = { role: 'user', content: 'And is there one with pictures in it?' }
  return {
    ...FIXED,
    messages: [...body.messages, { role: 'assistant', content: answer }, question] as typeof FIXED.messages,
  }
}

/** Waits until something is so; the test's own time limit ends it. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await setImmediate()
}

async function errorOf(
  server: ChatServer,
  body: unknown,
): Promise<{ status: number; message: string; param: unknown }> {
  const response = await server.post(body)
  const { error } = (await response.json()) as { error: { message: string; param: unknown } }
  return { status: response.status, message: error.message, param: error.param }
}

describe('the chat endpoint', () => {
  test('says what it is, and answers the same in a stream as without one', async () => {
    await withChatServer({}, async (server) => {
      expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: 'ok' })
      const models = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: readonly { id: string }[] }
      expect(models.data.map(({ id }) => id)).toEqual([MODEL])

      const whole = await server.ask({ ...FIXED, model: MODEL })
      expect(whole).toMatchObject({ status: 200, finish: 'length' })
      expect(whole.text.length).toBeGreaterThan(0)
      const { prompt, kept, host, disk, evaluated } = whole.tokens
      expect({ kept, host, disk, evaluated }).toEqual({ kept: 0, host: 0, disk: 0, evaluated: prompt })
      expect(whole.usage).toEqual({
        prompt_tokens: prompt,
        completion_tokens: 24,
        total_tokens: prompt + 24,
        prompt_tokens_details: { cached_tokens: 0 },
      })

      const streamed = await server.ask({ ...FIXED, stream: true, stream_options: { include_usage: true } })
      expect(streamed).toMatchObject({ status: 200, finish: 'length', text: whole.text })
      expect(streamed.tokens).toEqual({ prompt, kept: prompt - 1, host: 0, disk: 0, evaluated: 1 })
      expect(streamed.usage).toMatchObject({
        prompt_tokens: prompt,
        prompt_tokens_details: { cached_tokens: prompt - 1 },
      })
      const { status } = await fetch(`${server.url}/nothing`)
      expect(status).toBe(404)
    })
  })

  test('brings a conversation back after another user had the sequence, and says from where', async () => {
    await withChatServer({}, async (server) => {
      const alice = { ...FIXED, user: 'alice' }
      const first = await server.ask(alice)
      const other = {
        ...FIXED,
        messages: [{ role: 'user', content: 'What comes after the winter? '.repeat(10) }],
        user: 'bob',
      }
      await server.ask(other)

      const second = await server.ask({ ...next(alice, first.text), user: 'alice' })
      const { prompt, kept, host, disk, evaluated } = second.tokens
      expect(kept + host + disk + evaluated).toBe(prompt)
      expect(kept).toBe(0)
      expect(host + disk).toBeGreaterThanOrEqual(first.tokens.prompt - BLOCK)
      expect((host + disk) % BLOCK).toBe(0)
      // New are the second question and what of the first turn is no whole block.
      expect(evaluated).toBeLessThan(prompt - first.tokens.prompt + BLOCK)

      // An endpoint that has nothing to bring back says the same.
      await withChatServer({}, async (fresh) => {
        const computed = await fresh.ask({ ...next(alice, first.text), user: 'alice' })
        expect(computed.tokens.evaluated).toBe(prompt)
        expect(computed.text).toBe(second.text)
      })
      const { cache, failures } = server.engine.stats()
      expect(failures).toEqual([])
      expect(cache).toMatchObject({ enabled: true, tokensFromHost: host, tokensFromDisk: disk })
    })
  })

  test('shows no user what another one asked', async () => {
    await withChatServer({}, async (server) => {
      for (const user of ['alice', 'bob', undefined, 'alice']) {
        const { tokens } = await server.ask({ ...FIXED, ...(user === undefined ? {} : { user }) })
        expect(tokens.prompt, user).toBeGreaterThan(BLOCK)
        if (tokens.host > 0) expect(user).toBe('alice')
        else expect(tokens, user).toMatchObject({ kept: 0, disk: 0, evaluated: tokens.prompt })
      }
      const again = await server.ask({ ...FIXED, user: 'bob' })
      expect(again.tokens.host).toBeGreaterThan(0)
    })
  })

  test('lets all users share blocks where it was told to', async () => {
    await withChatServer({ share: true }, async (server) => {
      const alone = await server.ask({ ...FIXED, user: 'alice' })
      const shared = await server.ask({ ...FIXED, user: 'bob' })
      expect(shared.tokens).toMatchObject({ kept: alone.tokens.prompt - 1, evaluated: 1 })
      expect(shared.text).toBe(alone.text)
    })
  })

  test('serves users in turn when more of them ask than it has sequences', async () => {
    await withChatServer({}, async (server) => {
      const order: string[] = []
      const ask = async (user: string): Promise<void> => {
        const { status } = await server.ask({ ...FIXED, max_tokens: 8, user })
        expect(status).toBe(200)
        order.push(user)
      }
      const all = [ask('first')]
      await until(() => server.engine.stats().server.running === 1)
      for (const [number, user] of ['many', 'many', 'many', 'one'].entries()) {
        all.push(ask(user))
        await until(() => server.engine.stats().server.waiting === number + 1)
      }
      await Promise.all(all)
      expect(order).toEqual(['first', 'many', 'one', 'many', 'many'])
    })
  })
})

describe('who asks for what cannot be', () => {
  test('is told so, in a sentence that names the field', async () => {
    await withChatServer({}, async (server) => {
      const { messages } = FIXED
      const bad: readonly (readonly [unknown, RegExp])[] = [
        ['{', /JSON/],
        [[], /body must be a JSON object/],
        [{}, /messages must be an array of 1 to/],
        [{ messages: [] }, /messages must be/],
        [{ messages: [SYSTEM] }, /last of messages must have the role user/],
        [{ messages: [{ role: 'tool', content: 'x' }] }, /messages\[0\]\.role must be .* not "tool"/],
        [{ messages: [{ role: 'user' }] }, /messages\[0\]\.content must be a text/],
        [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, /text only/],
        [{ messages, max_tokens: 0 }, /max_tokens must be a whole number from 1/],
        [{ messages, max_tokens: 5000 }, /max_tokens is 5000: more than the 2048/],
        [{ messages: [{ role: 'user', content: 'x'.repeat(4000) }] }, /tokens: more than the 2048 of a context/],
        [{ messages, temperature: 3 }, /temperature must be a number from 0 to 2, not 3/],
        [{ messages, stream: 'yes' }, /stream must be true or false/],
        [{ messages, user: '' }, /user must be a text/],
        [{ messages, n: 2 }, /n must be 1/],
        [{ messages, tools: [{}] }, /has no tools/],
        [{ messages, stop: [1] }, /stop must be a text/],
      ]
      for (const [body, message] of bad) {
        const error = await errorOf(server, body)
        expect(error.message).toMatch(message)
        expect(error.status, error.message).toBe(400)
      }
      expect(await errorOf(server, { messages, model: 'gpt' })).toMatchObject({ status: 404, param: 'model' })
      // Nothing of that has taken the sequence.
      expect((await server.ask(FIXED)).status).toBe(200)
    })
  })

  test('is told that too many wait', async () => {
    await withChatServer({ mostWaiting: 0 }, async (server) => {
      const first = server.ask({ ...FIXED, max_tokens: 200 })
      await until(() => server.engine.stats().server.running === 1)
      const response = await server.post(FIXED)
      expect(response.status).toBe(429)
      expect(response.headers.get('retry-after')).toBe('1')
      expect((await first).status).toBe(200)
    })
  })
})

describe('a client that goes away', () => {
  test('frees the sequence, whether it waited or was being answered', async () => {
    await withChatServer({}, async (server) => {
      const [answered, waiting] = [new AbortController(), new AbortController()]
      const response = await server.post({ ...FIXED, max_tokens: 1000, stream: true }, answered.signal)
      expect(response.status).toBe(200)
      const second = server.post({ ...FIXED, user: 'bob' }, waiting.signal)
      await until(() => server.engine.stats().server.waiting === 1)
      waiting.abort()
      await expect(second).rejects.toThrow(/abort/i)
      await until(() => server.engine.stats().server.waiting === 0)
      expect(server.engine.stats().server.running).toBe(1)
      answered.abort()
      await until(() => server.engine.stats().server.running === 0)

      // The prompt was computed, and is still there for whoever asks again.
      const again = await server.ask(FIXED)
      expect(again.tokens.evaluated).toBe(1)
      const { cache, failures } = server.engine.stats()
      expect(cache.skipped).toMatchObject({ busy: 0, failed: 0 })
      expect(failures).toEqual([])
    })
  })
})

describe('the end of the server', () => {
  test('lets an answer under way finish, and turns away who waits', async () => {
    await withChatServer({}, async (server) => {
      const running = server.ask({ ...FIXED, max_tokens: 100 })
      await until(() => server.engine.stats().server.running === 1)
      const waiting = errorOf(server, { ...FIXED, user: 'bob' })
      await until(() => server.engine.stats().server.waiting === 1)
      const closed = server.close()
      expect(await waiting).toMatchObject({ status: 503, message: expect.stringContaining('about to end') })
      expect(await running).toMatchObject({ status: 200, finish: 'length' })
      await closed
      await expect(server.post(FIXED)).rejects.toThrow()
    })
  })

  test('cuts an answer off that takes longer than it may, and tells so in its stream', async () => {
    await withChatServer({}, async (server) => {
      const response = await server.post({ ...FIXED, max_tokens: 1400, stream: true })
      expect(response.status).toBe(200)
      const closed = server.close(0)
      const text = await response.text()
      expect(text).toContain('about to end')
      expect(text).not.toContain('[DONE]')
      await closed
    })
  })
})

describe('the example as it is called', () => {
  test('ends at SIGTERM when its answer is given, and knows the conversation when it is started again', async () => {
    await withDirectory(async (directory) => {
      const conversation = next(FIXED, 'It is on the second shelf.')
      const known: number[] = []
      for (const body of [FIXED, conversation]) {
        const program = startExample(['--port', '0', '--directory', directory, '--threads', '1', '--grace', '600'])
        const url = await program.url
        const response = await fetch(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ...body, stream: true }),
        })
        program.child.kill('SIGTERM')
        const { status, finish, tokens } = await readAnswer(response)
        expect({ status, finish }).toEqual({ status: 200, finish: 'length' })
        known.push(tokens.disk)
        expect(await program.end).toMatchObject({ code: 0, signal: null, stderr: 'ending ...\nended\n' })
      }
      expect(known[0]).toBe(0)
      expect(known[1]).toBeGreaterThanOrEqual(6 * BLOCK)
    })
  })

  test.each([
    [['--port', '70000'], /--port takes a whole number from 0 to 65535, not '70000'/],
    [['--model', '/nowhere/model.gguf'], /--model names no file/],
    [['--what'], /--what/],
  ])('ends with 2 for %j, and says why', async (args, message) => {
    const { code, stdout, stderr } = await startExample(args).end
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })

  test('has a help', async () => {
    const { code, stdout } = await startExample(['--help']).end
    expect(code).toBe(0)
    for (const option of ['--model PATH', '--sequences N', '--share']) expect(stdout).toContain(option)
  })
})
