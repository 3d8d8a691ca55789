import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LlamaModel } from 'node-llama-cpp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SHARED } from '../../lib/index.js'
import { modelPath } from '../../scripts/models/cache.js'
import { withManager } from '../support/manager.js'
import { createContext, greedy, largestDifference, loadModel, logitsAfter, promptOf } from './support/engine.js'

const TEXT = 'Hello, wörld!\n\tWhat about\u00a0“quotes”, 你好, ∆ and 🚀?  Two  spaces.\u0000'

/** Bytes of a state file for each token beside KV: the token, its position, and the sequences that have it. */
const TOKEN_BYTES = 16

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-engine-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** How many bytes of state one more token has, between two states of a sequence. */
async function stateBytesPerToken(model: LlamaModel): Promise<number> {
  const context = await createContext(model)
  const sequence = context.getSequence()
  const prompt = promptOf(model, 96)
  const sizes: number[] = []
  for (const tokens of [prompt.slice(0, 32), prompt.slice(32)]) {
    await sequence.evaluateWithoutGeneratingNewTokens(tokens)
    const path = join(folder, `state-${sizes.length}`)
    await sequence.saveStateToFile(path)
    sizes.push(statSync(path).size)
  }
  await context.dispose()
  return (sizes[1]! - sizes[0]!) / 64
}

describe.each([
  { name: 'tiny', prompt: 512, kvBytes: 2048 },
  { name: 'mid', prompt: 256, kvBytes: 4096 },
  { name: 'large', prompt: 128, kvBytes: 23_040 },
  { name: 'window', prompt: 512, kvBytes: 6 * 512 },
  { name: 'hybrid', prompt: 512, kvBytes: 2 * 512 },
])('the model $name', ({ name, prompt: promptLength, kvBytes }) => {
  let model: LlamaModel

  beforeAll(async () => {
    model = await loadModel(modelPath(name))
  })
  afterAll(() => model.dispose())

  test('tokenizes any text and gives it back', () => {
    const tokens = model.tokenize(TEXT)
    expect(tokens).toHaveLength(Buffer.byteLength(TEXT))
    expect(model.detokenize(tokens)).toBe(TEXT)
    expect(model.tokenize('<|im_start|>', true)).toHaveLength(1)
  })

  test('answers with text, twice the same', async () => {
    const context = await createContext(model)
    const sequence = context.getSequence()
    const prompt = promptOf(model, promptLength)
    const first = await greedy(sequence, prompt, 16)
    await sequence.clearHistory()
    expect(await greedy(sequence, prompt, 16)).toEqual(first)
    expect(model.detokenize(first)).toMatch(/^[ -~]{16}$/)
    await context.dispose()
  })

  test('computes the same logits again, and others where earlier tokens differ', async () => {
    const context = await createContext(model)
    const sequence = context.getSequence()
    const prompt = promptOf(model, promptLength)
    const other = promptOf(model, promptLength, 2)
    // One block far from the end is another's: only attention can carry the difference to the last token.
    const changed = prompt.map((token, at) => (at >= 32 && at < 96 ? (other[at] ?? token) : token))
    expect(changed).not.toEqual(prompt)
    const logits = await logitsAfter(sequence, prompt)
    await sequence.clearHistory()
    expect(largestDifference(await logitsAfter(sequence, prompt), logits)).toBe(0)
    await sequence.clearHistory()
    expect(largestDifference(await logitsAfter(sequence, changed), logits)).toBeGreaterThan(0.05)
    await context.dispose()
  })

  test('has the KV that it says', async () => {
    // gemma3 has two sections, and each says a token's position.
    const expected = kvBytes + TOKEN_BYTES + (name === 'window' ? TOKEN_BYTES - 4 : 0)
    expect(await stateBytesPerToken(model)).toBe(expected)
  })
})

test('kvtier and the engine share a process and do not disturb each other', async () => {
  const model = await loadModel(modelPath('tiny'))
  const context = await createContext(model)
  const sequence = context.getSequence()
  const prompt = promptOf(model, 100)
  const alone = await greedy(sequence, prompt, 16)
  await sequence.clearHistory()
  await withManager({}, async (manager, engine) => {
    const served = (): ReturnType<typeof engine.serve> =>
      engine.serve(manager.sequence(Uint32Array.from(prompt.slice(0, 40)), { tenant: SHARED }))
    const [answer, stored] = await Promise.all([greedy(sequence, prompt, 16), served()])
    expect(answer).toEqual(alone)
    expect(stored.tokensFromDevice).toBe(0)
    expect(await served()).toMatchObject({ tokensFromDevice: 40, verifiedBlocks: 10, wrongBlocks: 0 })
  })
  await model.dispose()
})
