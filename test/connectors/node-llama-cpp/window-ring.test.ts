import { describe, expect, test } from 'vitest'
import type { EngineContext } from '../../../lib/connectors/node-llama-cpp/engine.ts'
import { firstRowInPlace, ringOf } from '../../../lib/connectors/node-llama-cpp/window-ring.ts'

function contextWith(sizes: Partial<EngineContext>): EngineContext {
  return sizes as EngineContext
}

describe('the ring of a window', () => {
  test.each([
    // A window, a batch and the engine's token more, in steps of 256 cells.
    [{ contextSize: 4096, batchSize: 512 }, 256, 1024],
    [{ contextSize: 4096, batchSize: 512 }, 128, 768],
    [{ contextSize: 4096, batchSize: 511 }, 256, 768],
    [{ contextSize: 600, batchSize: 512 }, 256, 768],
    [{ contextSize: 256, batchSize: 512 }, 256, 256],
    [{ contextSize: 4096, batchSize: 512, _swaFullCache: true }, 256, null],
    [{ contextSize: 4096 }, 256, null],
  ])('of %j and %d tokens has %s cells', (sizes, windowTokens, cells) => {
    expect(ringOf(contextWith(sizes), windowTokens)).toEqual({ windowTokens, cells })
  })
})

describe('the first row that must come', () => {
  const ring = { windowTokens: 256, cells: 1024 }

  test.each([
    [1, 0],
    [200, 0],
    [256, 0],
    [512, 0],
    [1023, 0],
    // The ring is full, and the next row goes to its first cell.
    [1024, 0],
    [2048, 1024],
    // The window lies at both ends.
    [1025, 769],
    [1279, 1023],
    [1280, 1024],
    [1984, 1024],
  ])('with %d tokens is %d', (tokens, first) => {
    expect(firstRowInPlace(ring, tokens)).toBe(first)
  })

  test.each([1, 255, 256, 257, 1024, 1500])('with a cell for each of %d positions is the window’s', (tokens) => {
    expect(firstRowInPlace({ windowTokens: 256, cells: null }, tokens)).toBe(Math.max(0, tokens - 256))
  })

  test('leaves the window whole, and puts every row that it can where a fresh evaluation has it', () => {
    for (let tokens = 1; tokens < 4096; tokens++) {
      const first = firstRowInPlace(ring, tokens)
      expect(first).toBeLessThanOrEqual(Math.max(0, tokens - 256))
      expect(tokens - first).toBeLessThanOrEqual(1024)
      const behind = tokens % 1024
      if (behind === 0 || behind >= 256 || tokens < 256) expect(first % 1024).toBe(0)
    }
  })
})
