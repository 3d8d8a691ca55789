/** What GPUs are asked for, against a binding that is played. */
import { describe, expect, test } from 'vitest'
import { resolveDevice } from '../../lib/device-options.ts'
import type { ErrorCode } from '../../lib/errors.ts'
import { groupShapeOf, type ModelLayout } from '../../lib/identity/model-layout.ts'
import type { Binding, ExternalPointer } from '../../lib/native/binding.ts'
import type { Completions } from '../../lib/native/completions.ts'
import { type Gpus, openCuda } from '../../lib/tiers/cuda.ts'
import { LATENT } from '../support/layouts.ts'
import { TEST_LAYOUT } from '../support/manager.ts'

const details = (uuid: string) => ({ memoryBytes: 1, computeCapability: '9.0', uuid, pciAddress: '' })
const GPUS: Gpus = {
  available: true,
  reason: '',
  state: 'ready',
  driverVersion: '13.0',
  devices: ['A', 'B', 'C'],
  deviceDetails: [details('GPU-aaaa'), details(''), details('GPU-CCCC')],
}
const IPC = new Uint8Array(64).fill(1)

/** Opens every layer group of a device; what the binding was asked for. */
async function open(device: object, layout: ModelLayout = TEST_LAYOUT, gpus: Gpus = GPUS) {
  const asked: unknown[][] = []
  let result: unknown
  const start =
    (name: string) =>
    (_ticket: number, ...args: unknown[]) => {
      asked.push([name, ...args])
      result = { name }
    }
  const binding = {
    startProbe: () => {
      result = { cuda: gpus }
    },
    startOpenDevice: start('open'),
    startBorrowDevice: start('borrow'),
    startImportDevice: start('import'),
    readExternal: (value: object): ExternalPointer => ({
      kind: 'memory',
      address: 77n,
      bytes: 0,
      ordinal: -1,
      ...value,
    }),
  } as unknown as Binding
  const completions = {
    async call(run: (ticket: number) => void) {
      run(1)
      return result
    },
  } as unknown as Completions
  const resolved = resolveDevice({ kind: 'cuda', slots: 4, ...device })
  if (resolved?.kind !== 'cuda') throw new Error('the device is not of kind cuda')
  const cuda = await openCuda(binding, completions, layout, resolved)
  const ordinals: (readonly number[])[] = []
  for (const group of layout.groups) {
    ordinals.push((await cuda.open(group.name, groupShapeOf(group, layout.tokensPerBlock))).ordinals)
  }
  return { asked, ordinals }
}

const lent = (...regions: object[]) => ({ layout: 'contiguous', regions: { full: regions } })

describe('GPU memory', () => {
  test('is opened where it is to be, on one GPU or one a part', async () => {
    const shape = groupShapeOf(TEST_LAYOUT.groups[0]!, 4)
    const one = await open({ ordinal: 2 })
    expect(one).toEqual({ asked: [['open', Uint32Array.of(2), 'layersKvInner', shape, 4]], ordinals: [[2]] })
    const two = await open({ ordinals: [2, 0] }, LATENT)
    expect([two.asked[0]?.[1], two.ordinals]).toEqual([Uint32Array.of(2, 0), [[2, 0]]])
    const same = await open({ ordinals: [1, 1] }, LATENT)
    expect([same.asked[0]?.[1], same.ordinals]).toEqual([Uint32Array.of(1, 1), [[1]]])
  })

  test('is lent by address, or by an External that says what is left out', async () => {
    const external = { address: 900n, bytes: 100, ordinal: 2 }
    const { asked, ordinals } = await open(
      lent({ pointer: 5n, bytes: 10 }, { pointer: external }, { pointer: external, bytes: 50, ordinal: 1 }),
    )
    expect(asked[0]?.at(-1)).toEqual({
      ordinals: Uint32Array.of(0, 2, 1),
      addresses: BigUint64Array.of(5n, 900n, 900n),
      bytes: Float64Array.of(10, 100, 50),
    })
    expect(ordinals).toEqual([[0, 2, 1]])
  })

  test('of another process is found by its UUID, however it is written', async () => {
    const region = (uuid: string) => ({ ipc: IPC, bytes: 8, offset: 16, uuid })
    const { asked, ordinals } = await open(lent(region('GPU-cccc'), region('aaaa'), { ipc: IPC, bytes: 9, ordinal: 1 }))
    expect(asked[0]?.slice(4)).toEqual([
      Uint32Array.of(2, 0, 1),
      [IPC, IPC, IPC],
      Float64Array.of(16, 16, 0),
      Float64Array.of(8, 8, 9),
      0,
    ])
    expect(ordinals).toEqual([[2, 0, 1]])
  })

  test('of another process that is named is watched for its end', async () => {
    const { asked } = await open(lent({ ipc: IPC, bytes: 8, ordinal: 0, pid: 77 }))
    expect(asked[0]?.at(-1)).toBe(77)
  })

  const refused: [ErrorCode, string, object, ModelLayout?][] = [
    ['ERR_KV_INVALID_VALUE', 'device.ordinal', { ordinal: 3 }],
    ['ERR_KV_INVALID_VALUE', 'device.ordinals', { ordinals: [0, 1] }],
    ['ERR_KV_INVALID_VALUE', 'device.ordinals', { ordinals: [0, 1, 2] }, LATENT],
    ['ERR_KV_INVALID_VALUE', 'layer group full', { regions: {} }],
    ['ERR_KV_INVALID_VALUE', 'full[0].uuid', lent({ ipc: IPC, bytes: 8, uuid: 'GPU-dddd' })],
    ['ERR_KV_INVALID_VALUE', 'full[0].uuid', lent({ ipc: IPC, bytes: 8, uuid: '' })],
    ['ERR_KV_INVALID_VALUE', 'full[0].ordinal', lent({ ipc: IPC, bytes: 8, ordinal: 3 })],
    ['ERR_KV_INVALID_VALUE', 'full[0].ordinal', lent({ pointer: 5n, bytes: 8, ordinal: 3 })],
    ['ERR_KV_INVALID_TYPE', 'full[0].pointer', lent({ pointer: { kind: 'stream' } })],
    ['ERR_KV_INVALID_VALUE', 'full[0].bytes', lent({ pointer: {} })],
    ['ERR_KV_INVALID_VALUE', 'full[0].bytes', lent({ pointer: { bytes: 7 }, bytes: 8 })],
  ]
  test.each(refused)('is refused with %s about %s for %o', async (code, name, device, layout = TEST_LAYOUT) => {
    await expect(open(device, layout)).rejects.toMatchObject({ code, message: expect.stringContaining(name) })
  })

  test('is refused with the reason where there is no driver', async () => {
    const none = { ...GPUS, available: false, reason: 'libcuda.so.1 was not found' }
    await expect(open({}, TEST_LAYOUT, none)).rejects.toMatchObject({
      code: 'ERR_KV_UNSUPPORTED',
      message: expect.stringContaining('libcuda.so.1 was not found'),
    })
  })
})
