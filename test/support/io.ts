/**
 * Faults and holds in the test build's I/O, undone whatever the test does. They are the process's: tests of one file run
 * one after the other, and every file has a process of its own.
 */
import { binding, type FaultProfile, type TestingBinding } from '../../lib/native/binding.ts'

function testingOf(): TestingBinding {
  if (binding.testing === undefined) {
    throw new Error(
      'These tests need the addon of test builds: `npm run build` makes it, `npm test -- PATH` runs a single file with it.',
    )
  }
  return binding.testing
}

/** The test build's switches. */
export const testing: TestingBinding = testingOf()

let injectedBefore = 0

/** I/O calls that {@link withFaults} has made fail or lie so far. */
export function failuresOnDisk(): number {
  return injectedBefore
}

/** Runs with faults in every I/O call. */
export async function withFaults<T>(profile: FaultProfile, run: () => Promise<T>): Promise<T> {
  testing.setFaults(profile)
  try {
    return await run()
  } finally {
    injectedBefore += testing.faultsInjected()
    testing.setFaults(null)
  }
}

/** Runs with every I/O call held until `run` ends, or releases them itself. */
export async function withHeldIo<T>(run: () => Promise<T>): Promise<T> {
  testing.holdIo()
  try {
    return await run()
  } finally {
    testing.releaseIo()
  }
}

/** One turn of the event loop. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

/** Resolves when at least `count` I/O calls are held. */
export async function untilHeld(count: number = 1): Promise<void> {
  while (testing.heldIo() < count) await turn()
}

/** I/O calls that `run` makes. */
export async function countIo(run: () => Promise<unknown>): Promise<number> {
  const before = testing.ioCalls()
  await run()
  return testing.ioCalls() - before
}

/**
 * Whether a promise has settled by now. Only for promises that cannot settle yet (their I/O is held), or that nothing
 * but the event loop keeps from settling.
 */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  promise.then(
    () => {
      settled = true
    },
    () => {
      settled = true
    },
  )
  for (let i = 0; i < 10; i++) await turn()
  return settled
}
