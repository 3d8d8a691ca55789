import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import type { EngineContext, EngineModel, EngineTensorInfo } from '../../../lib/connectors/node-llama-cpp/engine.ts'
import { checkLora, identityOf, type LoraAdapter } from '../../../lib/connectors/node-llama-cpp/identity.ts'
import { fingerprintOf } from '../../../lib/identity/fingerprint.ts'
import { temporaryFolder } from '../../support/folder.ts'
import { TEST_LAYOUT } from '../../support/manager.ts'

const HEADER_BYTES = 8192
const TENSOR_BYTES = 20_000

let path = ''
let bytes = Buffer.alloc(0)

beforeEach(() => {
  path = join(temporaryFolder(), 'model.gguf')
  bytes = Buffer.alloc(HEADER_BYTES + 3 * TENSOR_BYTES, 7)
  writeFileSync(path, bytes)
})

function tensorOf(name: string, i: number): EngineTensorInfo {
  const fileOffset = BigInt(HEADER_BYTES + i * TENSOR_BYTES)
  return { name, dimensions: [TENSOR_BYTES], ggmlType: 0, fileOffset, filePart: 1 }
}

function modelOf(
  changes: { metadata?: object; release?: string; sources?: unknown[]; tensors?: EngineTensorInfo[] | undefined } = {},
): EngineModel {
  return {
    disposed: false,
    llama: { llamaCppRelease: { repo: 'ggml-org/llama.cpp', release: changes.release ?? 'v1' } },
    fileInfo: {
      metadata: changes.metadata ?? { general: { architecture: 'llama' }, llama: { rope: { freq_base: 10_000 } } },
      fullTensorInfo: 'tensors' in changes ? changes.tensors : [0, 1, 2].map((i) => tensorOf(`t${i}`, i)),
      sourceData: changes.sources ?? [{ type: 'path', path, length: HEADER_BYTES }],
    },
    fileInsights: { isRecurrent: false, isHybrid: false },
    tokens: { bos: 1 },
  }
}

function contextOf(model: EngineModel, changes: Partial<EngineContext> = {}): EngineContext {
  return {
    disposed: false,
    model,
    contextSize: 2048,
    flashAttention: false,
    sequencesLeft: 1,
    dispose: async () => undefined,
    getSequence: () => {
      throw new Error('No sequence was to be taken.')
    },
    ...changes,
  }
}

/** The fingerprint that a manager would have. */
async function identified(
  model = modelOf(),
  context: Partial<EngineContext> = {},
  lora: readonly LoraAdapter[] = [],
): Promise<string> {
  const { name, ...rest } = await identityOf(model, contextOf(model, context), lora, undefined)
  return Buffer.from(fingerprintOf({ ...rest, model: name, layout: TEST_LAYOUT })).toString('hex')
}

describe('the identity', () => {
  test('is the same for the same file and settings', async () => {
    expect(await identified()).toBe(await identified())
  })

  test.each([
    ['a byte of the header', 100],
    ['a byte where a tensor begins', HEADER_BYTES + TENSOR_BYTES],
    ['a byte in the middle of a tensor', HEADER_BYTES + TENSOR_BYTES / 2 + 17],
    ['the last byte', HEADER_BYTES + 3 * TENSOR_BYTES - 1],
  ])('is another when %s is another', async (_, at) => {
    const before = await identified()
    bytes[at] = 8
    writeFileSync(path, bytes)
    expect(await identified()).not.toBe(before)
  })

  test('is another when the file is longer', async () => {
    const before = await identified()
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(1, 7)]))
    expect(await identified()).not.toBe(before)
  })

  test('is another with other metadata, another engine or other settings', async () => {
    const all = [
      await identified(),
      await identified(
        modelOf({ metadata: { general: { architecture: 'llama' }, llama: { rope: { freq_base: 20_000 } } } }),
      ),
      await identified(modelOf({ release: 'v2' })),
      await identified(modelOf(), { flashAttention: true }),
      await identified(modelOf(), { flashAttention: 'auto' }),
    ]
    expect(new Set(all).size).toBe(all.length)
  })

  test('depends on the length of the context where the rope does, and only there', async () => {
    expect(await identified(modelOf(), { contextSize: 4096 })).toBe(await identified())
    const long = { llama: { rope: { scaling: { type: 'yarn' } } } }
    expect(await identified(modelOf({ metadata: long }), { contextSize: 4096 })).not.toBe(
      await identified(modelOf({ metadata: long })),
    )
  })

  test.each([
    ['has long and short factors for its rope', [tensorOf('rope_factors_long.weight', 0)]],
    ['has tensors that the engine does not tell', undefined],
  ])('depends on the length of the context where the model %s', async (_, tensors) => {
    expect(await identified(modelOf({ tensors }), { contextSize: 4096 })).not.toBe(
      await identified(modelOf({ tensors })),
    )
  })

  test('depends on adapters, their bytes and their scales', async () => {
    const adapter = join(temporaryFolder(), 'adapter.gguf')
    writeFileSync(adapter, Buffer.alloc(5000, 1))
    const one = await identified(modelOf(), {}, [{ filePath: adapter }])
    const half = await identified(modelOf(), {}, [{ filePath: adapter, scale: 0.5 }])
    writeFileSync(adapter, Buffer.alloc(5000, 2))
    const other = await identified(modelOf(), {}, [{ filePath: adapter }])
    expect(new Set([await identified(), one, half, other]).size).toBe(4)
  })

  test('needs the path where the engine does not say it', async () => {
    await expect(identified(modelOf({ sources: [] }))).rejects.toMatchObject({ code: 'ERR_KV_INVALID_VALUE' })
    const model = modelOf({ sources: [] })
    expect(await identityOf(model, contextOf(model), [], path)).toMatchObject({ name: 'node-llama-cpp' })
  })

  test('cannot be had of a file that is gone', async () => {
    const sources = [{ type: 'path', path: `${path}.gone`, length: 10 }]
    await expect(identified(modelOf({ sources }))).rejects.toMatchObject({
      code: 'ERR_KV_IO',
      message: expect.stringContaining('model.gguf.gone'),
    })
  })
})

describe('adapters', () => {
  test('must be named where the context has some', () => {
    const model = modelOf()
    const context = { ...contextOf(model), _loraAdapters: new Set([{}, {}]) } as EngineContext
    expect(() => checkLora(context, undefined)).toThrow(/has 2 LoRA adapters, but lora names 0/)
    expect(() => checkLora(context, [{ filePath: 'a' }])).toThrow(/names 1/)
    expect(checkLora(context, [{ filePath: 'a' }, { filePath: 'b', scale: 2 }])).toEqual([
      { filePath: 'a' },
      { filePath: 'b', scale: 2 },
    ])
  })

  test.each([
    ['no list', 'a.gguf', 'ERR_KV_INVALID_TYPE'],
    ['no path', [{ filePath: 7 }], 'ERR_KV_INVALID_TYPE'],
    ['a scale that is no number', [{ filePath: 'a', scale: Number.NaN }], 'ERR_KV_INVALID_VALUE'],
    ['a field that nobody knows', [{ file: 'a' }], 'ERR_KV_INVALID_VALUE'],
  ])('are refused as %s', (_, given, code) => {
    const model = modelOf()
    expect(() => checkLora(contextOf(model), given)).toThrow(expect.objectContaining({ code }))
  })
})
