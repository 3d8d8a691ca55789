import { expect, test } from 'vitest'
import { bindNodeLlamaCpp } from '../../../lib/connectors/node-llama-cpp/bind.ts'
import type { EngineModel } from '../../../lib/connectors/node-llama-cpp/engine.ts'
import { withManager } from '../../support/manager.ts'
import { fakeContext } from './fake-sequence.ts'

test('a manager that was closed is refused, and the engine is not touched', async () => {
  await withManager({}, async (manager) => {
    await manager.close()
    const model = { disposed: false, fileInfo: {}, fileInsights: {} } as unknown as EngineModel
    const getSequence = (): never => {
      throw new Error('No sequence was to be taken.')
    }
    const context = { ...fakeContext(), model, sequencesLeft: 1, getSequence }
    const { _setLoras } = context
    await expect(bindNodeLlamaCpp(manager, { model, context })).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
    expect(context._setLoras).toBe(_setLoras)
  })
})
