import { describe, expect, it } from 'vitest'
import { CHAT, chatTrace } from '../../../bench/trace/chat.js'

const SMALL = { ...CHAT, requests: 300, openChats: 20 }

describe('chatTrace', () => {
  it('is the same for the same seed and another for another', () => {
    expect(chatTrace(SMALL)).toEqual(chatTrace(SMALL))
    expect(chatTrace({ ...SMALL, seed: 8 }).nodes).not.toEqual(chatTrace(SMALL).nodes)
  })

  it('has as many requests as asked for, each behind a system prompt and longer than it', () => {
    const trace = chatTrace(SMALL)
    expect(trace.requests).toBe(300)
    for (let request = 0; request < trace.requests; request++) {
      const length = (trace.starts[request + 1] ?? 0) - (trace.starts[request] ?? 0)
      expect(length).toBeGreaterThan(SMALL.systemBlocks)
    }
  })

  it('uses blocks again: later turns repeat earlier ones', () => {
    const trace = chatTrace(SMALL)
    expect(trace.references).toBeGreaterThan(trace.uniqueBlocks * 2)
  })
})
