import { expect, test } from 'vitest'
import type { EngineModel } from '../../../lib/connectors/node-llama-cpp/engine.ts'
import { layoutOfImage } from '../../../lib/connectors/node-llama-cpp/layout.ts'
import type { ImageSection, ReadImage } from '../../../lib/native/image-binding.ts'
import { errorOf } from '../../support/expect-code.ts'

const SECTION: ImageSection = {
  kind: 'attention',
  layers: 2,
  firstPosition: 0,
  cellCount: 4,
  bytesPerToken: 1024,
  transposed: false,
  rows: Uint32Array.of(1, 256, 1, 256, 1, 256, 1, 256),
}

function imageOf(sections: number): ReadImage {
  return {
    version: 3,
    tokens: new Uint32Array(4),
    shape: new Uint32Array(),
    sections: Array.from({ length: sections }, () => SECTION),
  }
}

function modelOf(swaSize: number | undefined): EngineModel {
  return { fileInsights: { isRecurrent: false, isHybrid: false, swaSize } } as EngineModel
}

test('a window is a whole number of blocks, for no state has more of it', () => {
  const both = ['attention', 'attention'] as const
  const { groups } = layoutOfImage(modelOf(128), imageOf(2), both, 64)
  expect(groups.map(({ kind, windowTokens }) => [kind, windowTokens])).toEqual([
    ['full', undefined],
    ['sliding', 128],
  ])
  for (const tokens of [48, 256]) {
    const { message } = errorOf('ERR_KV_INVALID_VALUE', () => layoutOfImage(modelOf(128), imageOf(2), both, tokens))
    expect(message).toContain("divides the model's window of 128 tokens")
  }
  expect(layoutOfImage(modelOf(128), imageOf(1), ['attention'], 48).tokensPerBlock).toBe(48)
})
