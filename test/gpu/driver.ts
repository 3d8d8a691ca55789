/**
 * Which GPU the tests of this folder run on: the simulated driver's, or, where KVTIER_TEST_GPU is `real`, the first one of
 * this host's own driver. Import this before anything that uses a driver.
 */
import type { SimEngine } from '../support/sim-engine.ts'

/** Whether the tests run on a real GPU. */
export const onRealGpu: boolean = process.env.KVTIER_TEST_GPU === 'real'

// Importing it makes the simulated driver that of the process.
const simulated = onRealGpu ? null : await import('../support/sim-engine.ts')

/** The controls of the simulated driver; null on a real GPU. */
export const sim: SimEngine | null = simulated?.sim ?? null

/** What no correct program does was not done, as far as the driver tells. */
export function expectNoViolations(): void {
  simulated?.expectNoViolations()
}
