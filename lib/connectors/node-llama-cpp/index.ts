/**
 * The connector for node-llama-cpp: `kvtier/connectors/node-llama-cpp`. The public names and nothing else.
 */
export { bindNodeLlamaCpp, type OpenOptions, openNodeLlamaCpp } from './bind.js'
export type { NodeLlamaCppCache } from './cache.js'
export type {
  Attachment,
  AttachOptions,
  BindOptions,
  NodeLlamaCppEvents,
  NodeLlamaCppOffload,
  NodeLlamaCppOffloadOptions,
  NodeLlamaCppOnboardOptions,
  PromptReport,
} from './cache-options.js'
export type { CacheCounters, NodeLlamaCppStats, SkipReason } from './cache-stats.js'
export {
  type DescribeOptions,
  describeNodeLlamaCpp,
  type NodeLlamaCppModel,
  type NodeLlamaCppTarget,
} from './describe.js'
export type { EngineContext, EngineModel, EngineSequence } from './engine.js'
export type { LoraAdapter } from './identity.js'
export type { NodeLlamaCppOnboard } from './onboard.js'
