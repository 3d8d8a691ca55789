/**
 * Which device memory the suites have that run over each kind of it: host memory in a GPU's place, or the memory of the
 * simulated driver's GPUs (the project `sim` of the test configuration, whose set-up is sim-setup.ts).
 */
import type { OwnedCudaDevice, OwnedDevice } from '../../lib/device-options.ts'
import type { LayoutKindName } from '../../lib/native/binding.ts'

/** Whether device memory is a simulated GPU's in this run. */
export const ON_GPU: boolean = process.env.KVTIER_TEST_DEVICE === 'cuda'

/** Device memory of kvtier's own, of the kind of this run. */
export function ownedDevice(slots: number, layout?: LayoutKindName): OwnedDevice | OwnedCudaDevice {
  const lying = layout === undefined ? {} : { layout }
  return ON_GPU
    ? { kind: 'cuda', slots, ...lying, strategies: { measure: 'never' } }
    : { kind: 'host', slots, ...lying }
}
