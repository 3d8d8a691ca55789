/**
 * The life of a manager on a GPU in which something fails: opening, offloading, onboarding from host memory and from disk,
 * closing. Whatever fails: an error of a documented code or misses, no hang, no wrong byte, nothing left on the GPU; and a
 * manager that is opened after it works.
 */
import { expect } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { DeviceOptions } from '../../lib/device-options.ts'
import { isKvError } from '../../lib/errors.ts'
import { fence } from '../../lib/movement/fence.ts'
import type { Sequence } from '../../lib/movement/sequence.ts'
import type { ManagerOptions } from '../../lib/options.ts'
import { bytesOf } from './borrowed.ts'
import type { CudaMemory } from './cuda-memory.ts'
import { ownedDevice } from './device-kind.ts'
import { collect } from './garbage.ts'
import { testing, turn } from './io.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory } from './manager.ts'
import { expectQuiet } from './outcomes.ts'
import { sim } from './sim-engine.ts'
import { countOther, countWrong, emptyDevice, fillSlots, hashesOf, load, store } from './slots.ts'

/** Whether the run may take minutes. */
export const LONG = process.env.KVTIER_LONG === '1'
/** A sanitizer takes several times as long: it sees some calls of each life. */
export const STEP = process.env.KVTIER_SANITIZER === undefined ? 1 : 11
const REFUSALS = /^ERR_KV_(IO|OUT_OF_MEMORY|DEVICE_LOST|UNSUPPORTED|INVALID_VALUE)$/
const MISSES = /^(OK|ERR_KV_(IO|OUT_OF_MEMORY|DEVICE_LOST|UNSUPPORTED|INVALID_VALUE|NOT_FOUND|PARENT_LOST))$/
/** Of a prompt. */
export const BLOCKS = 4

/** What is to be given back by a GPU that is not used any more. */
export const ALL = ['allocations', 'registrations', 'imports', 'streams', 'events', 'modules'] as const
/** The same by one that is. */
export const MEMORY = ['allocations', 'registrations', 'imports'] as const

/**
 * No more is alive than before, but for the one thing that could not be given back if giving it back was what failed.
 * Events of a transfer live until what gives them to the engine is collected.
 */
async function expectGivenBack(before: ReadonlyMap<string, number>, when: string): Promise<void> {
  const more = () => [...before].map(([what, count]) => sim.count(what) - count).reduce((sum, each) => sum + each, 0)
  for (let i = 0; i < 20 && more() > 0; i++) {
    await turn()
    collect()
  }
  expect(more(), when).toBeLessThanOrEqual(1)
}

/** Tiers small enough that blocks go through all of them. */
export function optionsFor(device: DeviceOptions, directory: string): ManagerOptions {
  return testOptions(directory, { device, host: { capacityBytes: 5 * TEST_STRIDE }, engine: { threads: 3 } })
}

/** What a step may throw besides what the injected failure explains: nothing. */
export async function mayFail<T>(step: () => T | Promise<T>): Promise<T | null> {
  try {
    return await step()
  } catch (error) {
    if (!isKvError(error)) throw error
    expect(error.code).toMatch(REFUSALS)
    return null
  }
}

function expectDocumented(codes: Iterable<string>): void {
  for (const code of codes) expect(code).toMatch(MISSES)
}

/** Blocks of one prompt, whose slots kvtier accounts. */
async function throughOwned(manager: BlockManager, sequences: readonly Sequence[]): Promise<void> {
  const storage = manager.device.storage()
  for (const [i, sequence] of sequences.entries()) {
    await mayFail(async () => {
      const from = manager.device.reserve(BLOCKS)
      try {
        await fillSlots(storage, from.slots(), hashesOf(sequence, 0, BLOCKS)).catch(() => undefined)
        // What the engine computed is looked at first: what could not be computed is not offered.
        if ((await countWrong(storage, from.slots(), hashesOf(sequence, 0, BLOCKS))) > 0) return
        const until = i % 2 === 0 ? 'disk' : 'host'
        const transfer = sequence.offload({ from, after: fence.stream(0n), until })
        const result = await transfer.done
        await transfer.settled
        expectDocumented(Array.from({ length: result.blockCount }, (_, block) => result.code(block)))
      } finally {
        from.release()
      }
    })
    expectQuiet(manager)
  }
  for (const sequence of sequences) {
    await mayFail(() => emptyDevice(manager))
    await mayFail(async () => {
      const transfer = sequence.onboard({ after: fence.stream(0n), layerEvents: true })
      const result = await transfer.done
      await mayFail(() => transfer.ready)
      await transfer.settled
      try {
        expectDocumented(Array.from({ length: result.blockCount }, (_, block) => result.code(block)))
        const count = result.pin?.blockCount ?? 0
        if (count === 0 || manager.stats().tiers.device.failure !== null) return
        const slots = result.pin?.slots() ?? new Uint32Array()
        expect(await countOther(storage, slots, hashesOf(sequence, 0, count))).toBe(0)
      } finally {
        result.pin?.release()
      }
    })
    expectQuiet(manager)
  }
}

/** The same in slots of the engine's, whose bytes the test writes and reads itself. */
async function throughLent(manager: BlockManager, sequences: readonly Sequence[], memory: CudaMemory): Promise<void> {
  const bytes = (seed: number, block: number) => bytesOf(seed * 100 + block, memory.blockBytes('full'))
  const slots = (first: number) => Uint32Array.from({ length: BLOCKS }, (_, i) => first + i)
  for (const [seed, sequence] of sequences.entries()) {
    for (let block = 0; block < BLOCKS; block++) memory.write('full', block, bytes(seed, block))
    await mayFail(async () => {
      const until = seed % 2 === 0 ? 'disk' : 'host'
      const transfer = sequence.offload({ from: slots(0), after: fence.stream(0n), until })
      const result = await transfer.done
      await transfer.settled
      expectDocumented(Array.from({ length: result.blockCount }, (_, block) => result.code(block)))
    })
  }
  for (const [seed, sequence] of sequences.entries()) {
    for (let slot = BLOCKS; slot < 2 * BLOCKS; slot++) memory.write('full', slot, new Uint8Array(bytes(0, 0).length))
    await mayFail(async () => {
      const transfer = sequence.onboard({ into: slots(BLOCKS), after: fence.stream(0n), layerEvents: true })
      const result = await transfer.done
      await mayFail(() => transfer.ready)
      await transfer.settled
      expectDocumented(Array.from({ length: result.blockCount }, (_, block) => result.code(block)))
      for (let block = 0; block < result.tokens / 4; block++) {
        const isRight = Buffer.from(memory.read('full', BLOCKS + block)).equals(bytes(seed, block))
        expect(isRight, `block ${block} of prompt ${seed}`).toBe(true)
      }
    })
    expectQuiet(manager)
  }
}

/** A manager's whole life on device memory that it owns, or that is lent to it. */
export async function live(device: DeviceOptions, memory: CudaMemory | null, directory: string): Promise<void> {
  const manager = await mayFail(() => BlockManager.open(optionsFor(device, directory)))
  if (manager === null) return
  try {
    const sequences = [1, 2, 3].map((seed) => manager.sequence(tokens(seed, 4 * BLOCKS), { tenant: 'a' }))
    await (memory === null ? throughOwned(manager, sequences) : throughLent(manager, sequences, memory))
  } finally {
    await manager.close()
  }
}

/** Plans the n-th of something to fail. */
export type Plan = (n: number) => void

/** Fails one after the other of what `run` does, from the first to the last one and `step` apart; how many there were. */
export async function failEach(
  plan: Plan,
  step: number,
  alive: readonly string[],
  run: () => Promise<void>,
): Promise<number> {
  let failed = 0
  for (let n = 1; ; n += step) {
    const before = new Map(alive.map((what) => [what, sim.count(what)]))
    const injectedBefore = sim.count('failures')
    plan(n)
    try {
      await run()
    } finally {
      testing.simFailNothing()
    }
    await expectGivenBack(before, `number ${n}`)
    if (sim.count('failures') === injectedBefore) return failed
    failed++
  }
}

/** A manager on the GPU works. */
export async function expectWorks(device: DeviceOptions): Promise<void> {
  await withDirectory(async (directory) => {
    const manager = await BlockManager.open(optionsFor(device, directory))
    const sequence = manager.sequence(tokens(9, 4 * BLOCKS), { tenant: 'a' })
    expect((await store(manager, sequence, { until: 'disk' })).tokens).toBe(4 * BLOCKS)
    emptyDevice(manager)
    expect(await load(manager, sequence)).toMatchObject({ tokens: 4 * BLOCKS, wrong: 0 })
    await manager.close()
  })
}

/**
 * Memory of GPU 1, which nobody else uses, so that it is made ready for each manager. (The driver itself is looked at once a
 * process, and sim-setup.ts has GPU 0 in use: what a driver cannot offer is what `doctor` and native tests are about.)
 */
export const UNUSED: DeviceOptions = { ...ownedDevice(3 * BLOCKS), ordinal: 1 } as DeviceOptions
