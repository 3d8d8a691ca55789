/**
 * node-llama-cpp and models for the benchmarks. The engine is no package of kvtier's own: it is installed into test/engine
 * when it is first needed. Nothing here is typed by it, so that benchmarks compile without it.
 */
import { spawnSync } from 'node:child_process'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineContext, EngineModel, EngineSequence } from '../../lib/connectors/node-llama-cpp/index.js'
import type { Skipped } from '../harness/types.js'
import type { PromptModel, PromptSequence } from './prompts.js'

/** A sequence, with what the benchmarks call beside the connector. */
export interface LlamaSequence extends EngineSequence, PromptSequence<number> {
  eraseContextTokenRanges(ranges: readonly { readonly start: number; readonly end: number }[]): Promise<void>
}

/** A context that gives such sequences. */
export interface LlamaContext extends EngineContext {
  getSequence(): LlamaSequence
}

/** A model that makes such contexts. */
export interface LlamaModel extends EngineModel, PromptModel<number> {
  createContext(options: Readonly<Record<string, unknown>>): Promise<LlamaContext>
  dispose(): Promise<void>
}

/** What is used of the package itself. */
interface EnginePackage {
  readonly LlamaLogLevel: { readonly error: string }
  getLlama(options: Readonly<Record<string, unknown>>): Promise<{
    loadModel(options: { readonly modelPath: string }): Promise<LlamaModel>
    dispose(): Promise<void>
  }>
}

/** What is used of scripts/engine.js. */
interface Installer {
  isEngineInstalled(): boolean
}

/** What is used of scripts/models/cache.js. */
interface ModelCache {
  engineModelPath(name: string, options?: { readonly dtype?: string }): string
}

/** The exit code of scripts/engine.js where a machine cannot have the engine. */
const UNAVAILABLE = 3

/** A file of the checkout, from where this one was compiled to. */
function inCheckout(path: string): string {
  return new URL(`../../../../${path}`, import.meta.url).href
}

/**
 * Whether the engine is there, from how the program that installs it ended.
 *
 * @returns null where it is, or why it cannot be had here
 * @throws Error when installing it failed
 */
export function installOutcome(status: number | null, message: string): Skipped | null {
  if (status === 0) return null
  const reason = message.trim()
  if (status === UNAVAILABLE) return { skipped: reason }
  throw new Error(`node-llama-cpp could not be installed: ${reason}`)
}

let installed: Skipped | null | undefined

async function install(): Promise<Skipped | null> {
  const script = inCheckout('scripts/engine.js')
  const { isEngineInstalled } = (await import(script)) as Installer
  if (isEngineInstalled()) return null
  // Standard output is the report's.
  const stdio = ['ignore', 2, 'pipe'] as const
  const ran = spawnSync(process.execPath, [fileURLToPath(script), 'install'], { encoding: 'utf8', stdio: [...stdio] })
  return installOutcome(ran.status, ran.stderr)
}

/** A model that was loaded, by one engine of its own. */
export interface LoadedModel {
  readonly model: LlamaModel
  /** What a row says of it: the made model's name and type, or the file's name. */
  readonly name: string
  /** Whether it is the made one that figures are quoted of. */
  readonly isMade: boolean
  close(): Promise<void>
}

/** Whether models are made here: nobody named another one. */
export function modelIsMade(): boolean {
  return !process.env.KVTIER_ENGINE_MODEL
}

/** Loads the model that KVTIER_ENGINE_MODEL names, or a made one, which is made when it is not there yet. */
export async function openModel(name: string, dtype: string): Promise<LoadedModel | Skipped> {
  installed = installed === undefined ? await install() : installed
  if (installed !== null) return installed
  const engine = (await import(inCheckout('test/engine/node_modules/node-llama-cpp/dist/index.js'))) as EnginePackage
  const { engineModelPath } = (await import(inCheckout('scripts/models/cache.js'))) as ModelCache
  const isMade = modelIsMade()
  const modelPath = engineModelPath(name, { dtype })
  const llama = await engine.getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: engine.LlamaLogLevel.error,
  })
  const model = await llama.loadModel({ modelPath })
  return {
    model,
    name: isMade ? `${name}, ${dtype}` : basename(modelPath),
    isMade,
    async close() {
      await model.dispose()
      await llama.dispose()
    },
  }
}
