/**
 * One sequence of the engine that a cache knows: who attached it, for whom, and whose tokens are in it. What was evaluated
 * for one tenant is never another's: neither what is stored nor what a prompt finds in the sequence.
 */
import type { PromptReport } from './cache-options.js'
import type { BlockMeta } from './context.js'
import type { EngineSequence } from './engine.js'
import { type SequenceWatcher, TrackedSequence } from './tracked-sequence.js'

/** What an attachment shows. */
export interface Attached {
  last: PromptReport | null
}

/** Everybody who knows a sequence: several caches may, of which one at a time has it attached. */
const knownBy = new WeakMap<EngineSequence, Set<KnownSequence>>()

/** Who has a sequence attached. */
export function holderOf(sequence: EngineSequence): KnownSequence | undefined {
  for (const each of knownBy.get(sequence) ?? []) if (each.attached !== null) return each
  return undefined
}

/** Watched until it is disposed or its cache is closed, also while it is detached. */
export class KnownSequence {
  readonly tracked: TrackedSequence
  /** A save is due as soon as nothing evaluates. */
  saveDue = false
  readonly #others: Set<KnownSequence>
  readonly #stopListening: () => void
  readonly #onForget: () => void
  #meta: BlockMeta
  #owner: BlockMeta
  #attached: Attached | null = null

  /**
   * @param meta - for whom it is used until it is attached
   * @param onForget - called when nobody watches it any more
   */
  constructor(
    sequence: EngineSequence,
    meta: BlockMeta,
    watcher: Omit<SequenceWatcher, 'onEmpty'>,
    onForget: () => void,
  ) {
    this.#meta = meta
    this.#owner = meta
    this.#onForget = onForget
    this.tracked = new TrackedSequence(sequence, { ...watcher, onEmpty: () => this.#emptied() })
    this.tracked.adapting = false
    const listener = sequence.onDispose.createListener(() => this.forget())
    this.#stopListening = () => listener.dispose()
    this.#others = knownBy.get(sequence) ?? new Set()
    this.#others.add(this)
    knownBy.set(sequence, this.#others)
  }

  /** Whose blocks the next prompt looks for. */
  get meta(): BlockMeta {
    return this.#meta
  }

  /** Whose the tokens are that may be stored. */
  get owner(): BlockMeta {
    return this.#owner
  }

  /** What its attachment shows; null while it is detached. */
  get attached(): Attached | null {
    return this.#attached
  }

  /** Makes prompts of the sequence come to the cache. Nobody else has it attached. */
  attach(meta: BlockMeta): Attached {
    // What comes now is evaluated for this one, also where it is not told.
    for (const other of this.#others) if (other !== this) other.tracked.disown()
    const attached: Attached = { last: null }
    this.#attached = attached
    this.#turnTo(meta)
    this.tracked.adapting = true
    return attached
  }

  /** The engine's own method adapts the sequence again. Does nothing where it is not attached. */
  detach(meta: BlockMeta): void {
    if (this.#attached === null) return
    this.#attached = null
    this.tracked.adapting = false
    this.#turnTo(meta)
  }

  /** Whether another cache has it attached. */
  get isOthers(): boolean {
    const holder = holderOf(this.tracked.sequence)
    return holder !== undefined && holder !== this
  }

  /** Whether all that is in the sequence is this tenant's, so that a prompt of theirs may find it there. */
  isOf({ tenant }: BlockMeta): boolean {
    return this.#owner.tenant === tenant && this.tracked.isOwn
  }

  /** A prompt's tokens are in the sequence: it is the prompt's tenant's, unless it still has tokens of another. */
  claim(meta: BlockMeta): void {
    const { tracked } = this
    // What another cache's tenant evaluates next is not ours.
    if (tracked.sequence.disposed || this.isOthers) return
    if (this.#mayOwn(meta)) this.#own(meta)
    // It was attached for another meanwhile, for whom the next tokens are.
    if (this.#meta.tenant !== meta.tenant) tracked.disown()
  }

  /** Takes the hooks away. */
  forget(): void {
    this.#stopListening()
    this.#attached = null
    this.#others.delete(this)
    this.tracked.release()
    this.#onForget()
  }

  #turnTo(meta: BlockMeta): void {
    const { tracked } = this
    this.#meta = meta
    if (tracked.sequence.disposed) return
    if (this.#mayOwn(meta)) this.#own(meta)
    else if (this.#owner.tenant !== meta.tenant) tracked.disown()
  }

  /** Whether nothing in the sequence is anybody else's, nor is what was begun before and still comes. */
  #mayOwn(meta: BlockMeta): boolean {
    const { sequence, changing } = this.tracked
    return !changing && (sequence.nextTokenIndex === 0 || this.isOf(meta))
  }

  #own(meta: BlockMeta): void {
    this.#owner = meta
    this.tracked.own()
  }

  #emptied(): void {
    if (!this.isOthers && this.#mayOwn(this.#meta)) this.#own(this.#meta)
  }
}
