/**
 * What the demo's child process is told, and what it tells.
 */
import type { ErrorCode } from '../../errors.js'
import type { RequestTally } from '../pattern-engine.js'
import type { PathRate } from './paths.js'
import type { DemoDevice } from './settings.js'

/** The child's task, as its only argument (JSON). */
export interface WorkerTask {
  readonly directory: string
  readonly device: DemoDevice
  /** First request to serve. */
  readonly firstRequest: number
  /** Measure the paths after the last request. */
  readonly measurePaths: boolean
}

/** What the child sends, one message a line of its IPC channel. */
export type WorkerMessage =
  | {
      readonly type: 'open'
      readonly openMs: number
      readonly recoveredBlocks: number
      /** Whether device memory is the simulated driver's. */
      readonly simulated: boolean
    }
  | { readonly type: 'served'; readonly request: number; readonly tally: RequestTally }
  | {
      readonly type: 'end'
      readonly paths: readonly PathRate[]
      readonly checksumFailures: number
      readonly evicted: { readonly device: number; readonly host: number; readonly disk: number }
    }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string }
