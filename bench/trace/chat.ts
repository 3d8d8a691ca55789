/** A small trace made from a seed: chats of several turns behind a few shared system prompts. */
import { type Trace, TraceBuilder } from '../../lib/cli/replay/load-trace.js'
import { evenWords } from '../harness/words.js'

/** How large the trace is. */
export interface ChatShape {
  readonly seed: number
  readonly requests: number
  readonly systemPrompts: number
  readonly systemBlocks: number
  /** Chats that go on at one time. */
  readonly openChats: number
}

/** Some 200,000 references. */
export const CHAT: ChatShape = { seed: 7, requests: 5_000, systemPrompts: 6, systemBlocks: 12, openChats: 200 }

/** Turns after which a chat ends, on average. */
const TURNS = 8
const MOST_BLOCKS_A_TURN = 10

/** The trace; the same shape gives the same trace. */
export function chatTrace(shape: ChatShape): Trace {
  const random = evenWords(shape.requests * 4, shape.seed)
  let drawn = 0
  const below = (count: number): number => Math.floor(((random[drawn++ % random.length] ?? 0) / 2 ** 32) * count)
  let nextId = shape.systemPrompts * shape.systemBlocks
  const newChat = (): number[] => {
    // The first prompts are the popular ones.
    const prompt = Math.min(below(shape.systemPrompts), below(shape.systemPrompts))
    return Array.from({ length: shape.systemBlocks }, (_, i) => prompt * shape.systemBlocks + i)
  }
  const chats = Array.from({ length: shape.openChats }, newChat)
  const builder = new TraceBuilder()
  for (let request = 0; request < shape.requests; request++) {
    // Some chats are livelier than others.
    const chosen = Math.min(below(shape.openChats), below(shape.openChats))
    const chat = below(TURNS) === 0 ? newChat() : (chats[chosen] ?? newChat())
    for (let i = 1 + below(MOST_BLOCKS_A_TURN); i > 0; i--) chat.push(nextId++)
    chats[chosen] = chat
    builder.add(chat, request * 100)
  }
  return builder.finish('generated chats')
}
