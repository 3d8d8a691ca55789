/** A sequence that has tokens and no model: what node-llama-cpp's does with its tokens, and what it calls of itself. */
import type { EngineContext, EngineSequence } from '../../../lib/connectors/node-llama-cpp/engine.ts'

interface Range {
  readonly start: number
  readonly end: number
}

/** Calls that can be made to wait. */
type Gated = 'load' | 'save' | 'erase' | 'evaluate'

/** Where a call of the engine waits until it is opened. */
export interface Gate {
  /** Resolves when a call came. */
  readonly reached: Promise<void>
  open(): void
}

/** As much of a LlamaContext as sequences and the watch of its adapters touch. */
export function fakeContext(): EngineContext & { _setLoras(loras: readonly object[]): Promise<void> } {
  const context = { disposed: false, dispose: async () => undefined, _setLoras: async () => undefined }
  return context as unknown as ReturnType<typeof fakeContext>
}

/** As much of a LlamaContextSequence as the tracker touches. */
export class FakeSequence implements EngineSequence {
  readonly context: EngineContext
  readonly contextSize = 4096
  readonly onDispose = { createListener: () => ({ dispose: () => undefined }) }
  readonly calls: string[] = []
  disposed = false
  contextTokens: number[] = []
  /** What the next load gives; null: it fails. */
  loads: number[] | null = []
  readonly #gates = new Map<Gated, () => Promise<void>>()

  constructor(context: EngineContext = fakeContext()) {
    this.context = context
  }

  /** Makes calls of that name wait, as for a lock of the engine. */
  hold(name: Gated): Gate {
    let reach: () => void = () => undefined
    let open: () => void = () => undefined
    const reached = new Promise<void>((resolve) => {
      reach = resolve
    })
    const opened = new Promise<void>((resolve) => {
      open = resolve
    })
    this.#gates.set(name, () => {
      reach()
      return opened
    })
    return {
      reached,
      open: () => {
        this.#gates.delete(name)
        open()
      },
    }
  }

  get nextTokenIndex(): number {
    return this.contextTokens.length
  }

  async clearHistory(): Promise<void> {
    await this._eraseContextTokenRanges([{ start: 0, end: this.nextTokenIndex }])
  }

  dispose(): void {
    this.disposed = true
  }

  async saveStateToFile(): Promise<{ fileSize: number }> {
    await this.#gates.get('save')?.()
    this.calls.push('save')
    return { fileSize: 0 }
  }

  async loadStateFromFile(): Promise<void> {
    await this.#gates.get('load')?.()
    this.calls.push('load')
    if (this.loads === null) throw new Error('The state was refused.')
    this.contextTokens = [...this.loads]
  }

  async adaptStateToTokens(tokens: readonly number[]): Promise<void> {
    this.calls.push('adapt')
    let same = 0
    while (same < this.nextTokenIndex && this.contextTokens[same] === tokens[same]) same++
    if (same < this.nextTokenIndex) await this._eraseContextTokenRanges([{ start: same, end: this.nextTokenIndex }])
  }

  eraseContextTokenRanges(ranges: readonly Range[]): Promise<void> {
    return this._eraseContextTokenRanges(ranges)
  }

  async _eraseContextTokenRanges(ranges: readonly Range[]): Promise<void> {
    await this.#gates.get('erase')?.()
    this.contextTokens = this.contextTokens.filter((_, i) => !ranges.some(({ start, end }) => i >= start && i < end))
  }

  async *evaluateWithMetadata(tokens: readonly number[]): AsyncGenerator<{ token: number }, void, undefined> {
    let next = [...tokens]
    for (let token = 1; ; token++) {
      this.contextTokens.push(...next)
      next = [token]
      yield { token }
    }
  }

  async evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void> {
    await this.#gates.get('evaluate')?.()
    this.contextTokens.push(...tokens)
  }

  async controlledEvaluate(input: readonly number[]): Promise<unknown> {
    this.contextTokens.push(...input)
    return []
  }
}
