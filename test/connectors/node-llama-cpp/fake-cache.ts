/** Caches over sequences without a model: native code cuts and builds nothing, and what is loaded is what was asked for. */
import type { BlockManager } from '../../../lib/block-manager.ts'
import { AdapterWatch } from '../../../lib/connectors/node-llama-cpp/adapter-watch.ts'
import { NodeLlamaCppCache } from '../../../lib/connectors/node-llama-cpp/cache.ts'
import type { CacheDefaults } from '../../../lib/connectors/node-llama-cpp/cache-options.ts'
import { zeroCacheCounters } from '../../../lib/connectors/node-llama-cpp/cache-stats.ts'
import type { CacheContext } from '../../../lib/connectors/node-llama-cpp/context.ts'
import { Speeds } from '../../../lib/connectors/node-llama-cpp/speeds.ts'
import type { StateImage, StateImages } from '../../../lib/connectors/node-llama-cpp/state-images.ts'
import type { ReadImage } from '../../../lib/native/image-binding.ts'
import type { FakeSequence } from './fake-sequence.ts'

/** Tokens of a block of the managers of these tests. */
export const BLOCK = 4

/** A cache's context whose images are none: `cut` stands in for what native code does. */
export function contextOf(
  manager: BlockManager,
  sequence: FakeSequence,
  cut: (blocks: number) => void = () => undefined,
  windowTokens?: number,
): CacheContext {
  const read = (): ReadImage => {
    const { contextTokens } = sequence
    const section = (cellCount: number): ReadImage['sections'][number] => {
      const cells = { firstPosition: contextTokens.length - cellCount, cellCount, transposed: false }
      return { kind: 'attention', layers: 2, rows: new Uint32Array(), bytesPerToken: 4096, ...cells }
    }
    const windows = windowTokens === undefined ? [] : [section(Math.min(windowTokens, contextTokens.length))]
    const sections = [section(contextTokens.length), ...windows]
    return { version: 3, tokens: Uint32Array.from(contextTokens), shape: new Uint32Array(), sections }
  }
  const image = {
    path: '',
    read: async () => read(),
    cut: async (_section: number, _storage: unknown, moves: Uint32Array) => cut(moves.length / 2),
    build: async (_shape: Uint32Array, tokens: Uint32Array) => {
      sequence.loads = [...tokens]
      return { bad: new Uint32Array() }
    },
  } as unknown as StateImage
  return {
    manager,
    images: {
      toSave: <T>(work: (each: StateImage) => Promise<T>) => work(image),
      toBuild: <T>(work: (each: StateImage) => Promise<T>) => work(image),
      keepNone: async () => undefined,
      close: async () => undefined,
    } as unknown as StateImages,
    kinds: ['attention'],
    sections: manager.layout.groups.map(({ kind }, index) => ({ index, kind })),
    pattern: read(),
    contextSize: sequence.contextSize,
    tokensPerBlock: BLOCK,
    needsBoundaries: false,
    ring: null,
    speeds: new Speeds(),
    counters: zeroCacheCounters(),
  }
}

/** A cache for one sequence, and what it told. */
export interface FakeCache {
  readonly cache: NodeLlamaCppCache
  /** Every event, as its name and what it says. */
  readonly told: string[]
  readonly images: StateImages
}

/** A cache over `sequence`, which brings whatever is held. */
export function fakeCache(
  manager: BlockManager,
  sequence: FakeSequence,
  changes: Partial<CacheDefaults> = {},
  ofContext: Partial<CacheContext> = {},
): FakeCache {
  const context = { ...contextOf(manager, sequence), ...ofContext }
  const cache = new NodeLlamaCppCache({
    manager,
    ownsManager: false,
    engine: sequence.context,
    adapters: new AdapterWatch(sequence.context),
    images: context.images,
    context,
    reason: '',
    options: {
      tenant: 'default',
      minGainTokens: 1,
      saveAt: 'turn-end',
      onboardWhen: 'held',
      windowRows: 'last',
      ...changes,
    },
  })
  const told: string[] = []
  cache.on('disabled', ({ reason }) => told.push(`disabled: ${reason}`))
  cache.on('failed', ({ what, code, message }) => told.push(`failed: ${what}: ${code}: ${message}`))
  return { cache, told, images: context.images }
}
