import { describe, expect, test } from 'vitest'
import { resolveDevice } from '../lib/device-options.ts'
import { errorOf } from './support/expect-code.ts'

const IPC = new Uint8Array(64).fill(9)
const OWNED = { kind: 'cuda', slots: 4 }
const lent = (...regions: unknown[]) => ({ ...OWNED, regions: { full: regions } })

describe('a device of kind cuda', () => {
  test('is the first GPU, in layers, with strategies that are measured once, unless it is said', () => {
    expect(resolveDevice(OWNED)).toEqual({
      kind: 'cuda',
      slots: 4,
      layout: 'layersKvInner',
      ordinals: [0],
      regions: null,
      strategies: { forbid: [], measure: 'once' },
    })
  })

  test('keeps what was said', () => {
    const strategies = { forbid: ['kernel', 'staged'], measure: 'never' }
    expect(resolveDevice({ ...OWNED, ordinals: [1, 0], layout: 'contiguous', strategies })).toEqual({
      kind: 'cuda',
      slots: 4,
      layout: 'contiguous',
      ordinals: [1, 0],
      regions: null,
      strategies,
    })
    expect(resolveDevice({ ...OWNED, ordinal: 3 })).toMatchObject({ ordinals: [3] })
  })

  test('may be lent by pointers, and Externals that say their own size', () => {
    const external = {}
    const device = lent(
      { pointer: 4096n, bytes: 8 },
      { pointer: external },
      { pointer: external, bytes: 8, ordinal: 1 },
    )
    expect(resolveDevice(device)).toMatchObject({
      ordinals: [],
      regions: {
        full: [{ pointer: 4096n, bytes: 8 }, { pointer: external }, { pointer: external, bytes: 8, ordinal: 1 }],
      },
    })
  })

  test('may be lent by another process, whose handles are copied', () => {
    const handle = IPC.slice()
    const resolved = resolveDevice(lent({ ipc: handle, bytes: 8, uuid: 'GPU-1' }, { ipc: handle, offset: 4, bytes: 8 }))
    handle.fill(0)
    expect(resolved).toMatchObject({
      regions: {
        full: [
          { ipc: IPC, offset: 0, bytes: 8, uuid: 'GPU-1' },
          { ipc: IPC, offset: 4, bytes: 8 },
        ],
      },
    })
  })

  test('may have layer groups of both kinds, and groups with any name', () => {
    const regions = { __proto__: null, constructor: [{ pointer: 1n, bytes: 1 }], full: [{ ipc: IPC, bytes: 1 }] }
    const resolved = resolveDevice({ ...OWNED, regions })
    expect(Object.keys(resolved?.regions ?? {})).toEqual(['constructor', 'full'])
  })

  const wrong: [string, object, string][] = [
    ['device.kind', { kind: 'rocm', slots: 1 }, 'ERR_KV_INVALID_VALUE'],
    ['device.slots', { kind: 'cuda' }, 'ERR_KV_INVALID_TYPE'],
    ['device.slots', { ...OWNED, slots: 2 ** 31 }, 'ERR_KV_INVALID_VALUE'],
    ['device.layout', { ...OWNED, layout: 'rows' }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinal', { ...OWNED, ordinal: -1 }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinal', { ...OWNED, ordinal: '0' }, 'ERR_KV_INVALID_TYPE'],
    ['device.ordinal', { ...OWNED, ordinal: 0, ordinals: [0] }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinal', { ...lent({ pointer: 1n, bytes: 1 }), ordinal: 0 }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinals', { ...lent({ pointer: 1n, bytes: 1 }), ordinals: [0] }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinals', { ...OWNED, ordinals: [] }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinals', { ...OWNED, ordinals: 1 }, 'ERR_KV_INVALID_TYPE'],
    ['device.ordinals[1]', { ...OWNED, ordinals: [0, 0.5] }, 'ERR_KV_INVALID_VALUE'],
    ['device.ordinal', { kind: 'host', slots: 1, ordinal: 0 }, 'ERR_KV_INVALID_VALUE'],
    ['device.strategies', { kind: 'host', slots: 1, strategies: {} }, 'ERR_KV_INVALID_VALUE'],
    ['device.strategies', { ...OWNED, strategies: 'kernel' }, 'ERR_KV_INVALID_TYPE'],
    ['device.strategies.forbids', { ...OWNED, strategies: { forbids: [] } }, 'ERR_KV_INVALID_VALUE'],
    ['device.strategies.forbid', { ...OWNED, strategies: { forbid: 'kernel' } }, 'ERR_KV_INVALID_TYPE'],
    ['device.strategies.forbid', { ...OWNED, strategies: { forbid: ['single'] } }, 'ERR_KV_INVALID_VALUE'],
    ['device.strategies.forbid', { ...OWNED, strategies: { forbid: ['dma'] } }, 'ERR_KV_INVALID_VALUE'],
    ['device.strategies.measure', { ...OWNED, strategies: { measure: 'always' } }, 'ERR_KV_INVALID_VALUE'],
    ['device.regions', { ...OWNED, regions: [] }, 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full', { ...OWNED, regions: { full: {} } }, 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0]', lent(5), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].pointer', lent({ bytes: 8 }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].pointer', lent({ pointer: 4096, bytes: 8 }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].pointer', lent({ pointer: 0n, bytes: 8 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].pointer', lent({ pointer: 2n ** 64n, bytes: 8 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].bytes', lent({ pointer: 1n }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].bytes', lent({ pointer: {}, bytes: 0 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].ordinal', lent({ pointer: 1n, bytes: 1, ordinal: 5000 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].offset', lent({ pointer: 1n, bytes: 1, offset: 1 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[1].ipc', lent({ ipc: IPC, bytes: 1 }, { ipc: 'abc', bytes: 1 }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].ipc', lent({ ipc: new Uint8Array(), bytes: 1 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].bytes', lent({ ipc: IPC }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].offset', lent({ ipc: IPC, bytes: 1, offset: -1 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full[0].uuid', lent({ ipc: IPC, bytes: 1, uuid: 5 }), 'ERR_KV_INVALID_TYPE'],
    ['device.regions.full[0].ordinal', lent({ ipc: IPC, bytes: 1, uuid: 'a', ordinal: 0 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full', lent({ ipc: IPC, bytes: 1 }, { pointer: 1n, bytes: 1 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full', lent({ ipc: IPC, bytes: 1, pid: 1 }, { ipc: IPC, bytes: 1 }), 'ERR_KV_INVALID_VALUE'],
    ['device.regions.full', lent(), 'ERR_KV_INVALID_VALUE'],
    // An array may have left elements out.
    ['device.regions.full[0]', { ...OWNED, regions: { full: new Array(2) } }, 'ERR_KV_INVALID_TYPE'],
    ['device.ordinals[0]', { ...OWNED, ordinals: new Array(2) }, 'ERR_KV_INVALID_TYPE'],
  ]
  test.each(wrong)('is refused, naming %s, for %o', (name, device, code) => {
    const error = errorOf(code as 'ERR_KV_INVALID_TYPE', () => resolveDevice(device))
    expect(error.message).toContain(name)
  })
})
