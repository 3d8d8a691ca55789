/**
 * Before each file of the project `sim`: makes the simulated driver that of its process. After each test: what no correct
 * program does was not done, and the failures that were injected are noted for the last lines of the run.
 */
import { afterEach, beforeAll, beforeEach, expect } from 'vitest'
import { binding, type StorageHandle } from '../../lib/native/binding.ts'
import { completions } from '../../lib/native/completions.ts'
import { failuresOnDisk } from './io.ts'
import { expectNoViolations, sim } from './sim-engine.ts'

declare module 'vitest' {
  interface TaskMeta {
    /** Calls, work, devices and I/O that failed because the test wanted it so. */
    failuresInjected?: number
  }
}

const injected = (): number => sim.count('failures') + failuresOnDisk()
let before = 0

/** Files of many managers or storages that leave the number of the engine's threads to others. */
const KEEPS_GPUS = /\/(conformance|model)\/|\/fault\/(gpu-nth-call|gpu-nth-work|mixture|reads|writes|nth-call)\./
const ONE_GPU = /gpu-nth-/
/** A handle that is collected closes its storage. */
let kept: StorageHandle | null = null

// To make what a GPU in use needs takes longer than most tests: it stays in use until the file has ended.
beforeAll(async () => {
  const path = expect.getState().testPath ?? ''
  if (kept !== null || !KEEPS_GPUS.test(path)) return
  completions()
  binding.openEngine({ threads: 4, readBytesInFlight: 1 << 20, writeBytesInFlight: 1 << 20, queueBlocks: 1 })
  const shape = { parts: 2, layers: 1, outer: 1, tokensPerBlock: 1, bytesPerToken: 1 } as const
  // Two GPUs, but for a file that needs one that nobody uses.
  const ordinals = Uint32Array.of(0, ONE_GPU.test(path) ? 0 : 1)
  kept = await completions().call<StorageHandle>((ticket) =>
    binding.startOpenDevice(ticket, ordinals, 'layersKvInner', shape, 1),
  )
})

beforeEach(() => {
  before = injected()
})

afterEach(({ task }) => {
  task.meta.failuresInjected = injected() - before
  expectNoViolations()
})
