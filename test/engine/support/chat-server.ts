/** The example's endpoint for tests: on a free port, with the tiny model, ended after the test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'
import { createApp } from '../../../scripts/chat-server/app.js'
import { ChatEngine } from '../../../scripts/chat-server/chat-engine.js'
import { modelPath } from '../../../scripts/models/cache.js'
import { type ChildEnd, endOf } from '../../support/child.js'
import { withDirectory } from '../../support/manager.js'

const MAIN = fileURLToPath(new URL('../../../scripts/chat-server/main.js', import.meta.url))
const MiB = 1024 * 1024

/** The model's name at the endpoint. */
export const MODEL = 'tiny'

/** What one answer said. */
export interface Answer {
  readonly status: number
  readonly text: string
  readonly finish: string | null
  readonly usage: Record<string, unknown> | undefined
  /** The headers x-kvtier-..., by what follows. */
  readonly tokens: Record<'prompt' | 'kept' | 'host' | 'disk' | 'evaluated', number>
}

/** A running endpoint. */
export interface ChatServer {
  readonly app: FastifyInstance
  readonly engine: ChatEngine
  readonly url: string
  /** Sends a body and reads the whole answer, streamed or not. */
  ask(body: object, signal?: AbortSignal): Promise<Answer>
  /** Sends a body and gives the answer as it is. */
  post(body: unknown, signal?: AbortSignal): Promise<Response>
  /** Ends it before the test does. */
  close(graceMs?: number): Promise<void>
}

type Setup = Partial<Parameters<typeof ChatEngine.open>[0]>

/** Runs `test` with an endpoint. Each token is computed in a batch of its own, so that answers can be compared. */
export async function withChatServer(setup: Setup, test: (server: ChatServer) => Promise<void>): Promise<void> {
  await withDirectory(async (directory) => {
    const engine = await ChatEngine.open({
      modelPath: modelPath('tiny'),
      sequences: 1,
      contextSize: 2048,
      directory,
      host: 16 * MiB,
      disk: 64 * MiB,
      share: false,
      mostWaiting: 8,
      threads: 1,
      batchSize: 1,
      ...setup,
    })
    const app = await createApp(engine, { model: MODEL })
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    let closing: Promise<void> | undefined
    const close = (graceMs = 10_000): Promise<void> => {
      closing ??= Promise.all([engine.close(graceMs), app.close()]).then(() => undefined)
      return closing
    }
    const post = (body: unknown, signal?: AbortSignal): Promise<Response> =>
      fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...(signal === undefined ? {} : { signal }),
      })
    try {
      await test({
        app,
        engine,
        url,
        post,
        close,
        ask: async (body, signal) => await readAnswer(await post(body, signal)),
      })
    } finally {
      await close()
    }
  })
}

/** Reads an answer of either kind. */
export async function readAnswer(response: Response): Promise<Answer> {
  const number = (name: string): number => Number(response.headers.get(`x-kvtier-${name}`) ?? Number.NaN)
  const tokens = {
    prompt: number('prompt-tokens'),
    kept: number('kept'),
    host: number('host'),
    disk: number('disk'),
    evaluated: number('evaluated'),
  }
  const { status } = response
  if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) {
    const body = (await response.json()) as Completion
    const [choice] = body.choices ?? []
    return {
      status,
      tokens,
      text: choice?.message?.content ?? '',
      finish: choice?.finish_reason ?? null,
      usage: body.usage,
    }
  }
  const events = (await response.text()).split('\n\n').filter((event) => event !== '')
  if (events.pop() !== 'data: [DONE]') throw new Error('The stream did not end with [DONE].')
  const chunks = events.map((event) => JSON.parse(event.replace(/^data: /, '')) as Completion)
  return {
    status,
    tokens,
    text: chunks.map(({ choices }) => choices?.[0]?.delta?.content ?? '').join(''),
    finish: chunks.findLast(({ choices }) => choices?.length === 1)?.choices?.[0]?.finish_reason ?? null,
    usage: chunks.at(-1)?.usage,
  }
}

/** Starts the example's program; `url`: where chats are answered, as it says when it is ready. */
export function startExample(args: readonly string[]): {
  child: ChildProcess
  url: Promise<string>
  end: Promise<ChildEnd>
} {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const end = endOf(child)
  const url = new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', (data: Buffer) => {
      const found = /http:\S+completions/.exec(data.toString())
      if (found !== null) resolve(found[0])
    })
    end.then(({ stderr }) => reject(new Error(`The example ended before it was ready: ${stderr}`)), reject)
  })
  url.catch(() => undefined)
  return { child, url, end }
}

interface Completion {
  readonly choices?: readonly {
    readonly message?: { readonly content: string }
    readonly delta?: { readonly content?: string }
    readonly finish_reason: string | null
  }[]
  readonly usage?: Record<string, unknown>
}
