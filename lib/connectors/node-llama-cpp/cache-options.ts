/**
 * What callers of the cache give and get.
 */
import type { TransferLimits } from '../../movement/transfer.js'
import type { BlockMeta } from './context.js'
import type { NodeLlamaCppTarget } from './describe.js'
import type { EngineSequence } from './engine.js'
import type { NodeLlamaCppOnboard } from './onboard.js'

/** What `bindNodeLlamaCpp` takes. */
export interface BindOptions extends NodeLlamaCppTarget {
  /** Whose blocks they are where `attach` names nobody (default `default`). Each user of a server should be a tenant. */
  readonly tenant?: BlockMeta['tenant']
  /** Fewest tokens that an onboard must bring (default: one block). */
  readonly minGainTokens?: number
  /**
   * Whether what is held of a prompt is brought only where that is `faster` (default) than computing it, by the speeds that
   * were seen, or whenever it is `held`.
   */
  readonly onboardWhen?: 'faster' | 'held'
  /**
   * When the state of an attached sequence is saved: when an evaluation has ended (default), so that it survives a
   * restart; or only `before-eviction`, when the sequence turns to another prompt, which saves less often.
   */
  readonly saveAt?: 'turn-end' | 'before-eviction'
  /**
   * Of the layers with a sliding window, the rows that are kept: those of the `last` window before each place where a state
   * is saved (default): the end of a prompt, where prompts part, a turn's end. Or `all` rows of a prompt: it is evaluated a
   * window at a time and saved after each, so that it comes back at every block, and, but where it ends less than a window
   * behind the ring of cells that the engine keeps, with the very bits of a fresh evaluation. That costs a save for each
   * window's tokens and the room for their rows. Models without such layers have no use for it.
   */
  readonly windowRows?: 'last' | 'all'
}

/** What `attach` takes. */
export interface AttachOptions {
  /** Whose blocks they are: no other tenant ever sees them (default: the cache's). */
  readonly tenant?: BlockMeta['tenant']
  /** 0 to 100; blocks of a higher priority leave later (default 50). */
  readonly priority?: number
  /** Milliseconds that a stored block lives (default 0: until it is evicted). */
  readonly ttlMs?: number
}

/** What `onboard` takes. */
export interface NodeLlamaCppOnboardOptions extends TransferLimits {
  /** Fewest tokens that must come (default: the cache's). */
  readonly minGainTokens?: number
}

/** What `offload` takes. */
export interface NodeLlamaCppOffloadOptions extends TransferLimits {
  /** `disk`: resolve when the blocks would survive a kill -9 (default `host`; with a disk tier they are written behind it). */
  readonly until?: 'host' | 'disk'
}

/** What an offload did. */
export interface NodeLlamaCppOffload {
  /** Tokens from the start of the sequence that a tier holds now; with `until: 'disk'`, that the disk holds. */
  readonly tokens: number
  /** Blocks, of all layer groups, that were stored now. */
  readonly blocks: number
  /** Why not more is held; empty when all whole blocks of the sequence are. */
  readonly message: string
}

/** What became of the last prompt of an attached sequence. */
export interface PromptReport extends NodeLlamaCppOnboard {
  /** Tokens of the prompt, without the last one, which the engine always evaluates. */
  readonly promptTokens: number
  /** Tokens that were in the sequence and stayed. */
  readonly kept: number
}

/** A sequence that uses the cache. */
export interface Attachment {
  readonly sequence: EngineSequence
  /** What became of the last prompt; null before the first. */
  readonly last: PromptReport | null
  /** Lets the engine's own method adapt the sequence to prompts again. A save that is due is still made. */
  detach(): void
  [Symbol.dispose](): void
}

/** Events of a cache by name, each with its one argument. */
export interface NodeLlamaCppEvents {
  /** Blocks are not used any more, or never were: sequences work as without a cache. */
  disabled: { readonly reason: string }
  /** Something failed, at the cost of tokens that are computed again. */
  failed: { readonly what: 'onboard' | 'offload' | 'write'; readonly code: string; readonly message: string }
}

/** The options of the bind with their defaults filled in. */
export interface CacheDefaults {
  readonly tenant: BlockMeta['tenant']
  readonly minGainTokens: number
  readonly saveAt: 'turn-end' | 'before-eviction'
  readonly onboardWhen: 'faster' | 'held'
  readonly windowRows: 'last' | 'all'
}
