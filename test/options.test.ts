import { describe, expect, test } from 'vitest'
import { GiB, KiB, type ManagerOptions, MiB, resolveOptions } from '../lib/options.ts'
import { errorOf } from './support/expect-code.ts'
import { TEST_LAYOUT } from './support/manager.ts'

const LEAST = { layout: TEST_LAYOUT, model: 'm', host: { capacityBytes: 1 } } satisfies ManagerOptions

describe('options', () => {
  test('have defaults for all but layout, model and host', () => {
    expect(resolveOptions(LEAST)).toEqual({
      layout: TEST_LAYOUT,
      model: { name: 'm' },
      device: null,
      hostBytes: 1,
      disk: null,
      evictionPolicy: 'lru',
      quotas: {},
      secret: null,
      leaveLastBlock: true,
      deadlineMs: 30_000,
      flushOnClose: true,
      engine: { threads: 0, readBytesInFlight: 32 * MiB, writeBytesInFlight: 32 * MiB, queueBlocks: 65_536 },
    })
    expect([KiB, MiB, GiB]).toEqual([2 ** 10, 2 ** 20, 2 ** 30])
  })

  test('that are given are kept, and the caller’s secret is copied', () => {
    const secret = new Uint8Array(16).fill(7)
    const resolved = resolveOptions({
      ...LEAST,
      model: { name: 'm', revision: 'r' },
      device: { kind: 'host', slots: 3 },
      disk: { directory: '/x', capacityBytes: 5, direct: false, gpuDirect: 'never' },
      evictionPolicy: 'fifo',
      quotas: { a: { hostBytes: 1 }, b: {}, constructor: { diskBytes: 2 } },
      secret,
      leaveLastBlock: false,
      deadlineMs: 0,
      flushOnClose: false,
      engine: { threads: 64, readBytesInFlight: 1, writeBytesInFlight: 2, queueBlocks: 1 << 20 },
    })
    secret.fill(0)
    expect(resolved).toMatchObject({
      model: { name: 'm', revision: 'r' },
      device: { kind: 'host', slots: 3, layout: 'layersKvInner' },
      disk: { directory: '/x', capacityBytes: 5, direct: false, gpuDirect: 'never' },
      evictionPolicy: 'fifo',
      quotas: { a: { hostBytes: 1 }, b: {}, constructor: { diskBytes: 2 } },
      leaveLastBlock: false,
      deadlineMs: 0,
      flushOnClose: false,
      engine: { threads: 64, readBytesInFlight: 1, writeBytesInFlight: 2, queueBlocks: 1 << 20 },
    })
    expect(resolved.secret).toEqual(new Uint8Array(16).fill(7))
  })

  const wrong: [string, object, string][] = [
    ['options', { unknown: 1 }, 'ERR_KV_INVALID_VALUE'],
    ['layout', { layout: undefined }, 'ERR_KV_INVALID_TYPE'],
    ['layout', { layout: null }, 'ERR_KV_INVALID_TYPE'],
    ['model', { model: '' }, 'ERR_KV_INVALID_VALUE'],
    ['model', { model: undefined }, 'ERR_KV_INVALID_TYPE'],
    ['model.name', { model: {} }, 'ERR_KV_INVALID_TYPE'],
    ['model.revison', { model: { name: 'm', revison: 'r' } }, 'ERR_KV_INVALID_VALUE'],
    ['host', { host: [] }, 'ERR_KV_INVALID_TYPE'],
    ['host.capacityBytes', { host: { capacityBytes: 0 } }, 'ERR_KV_INVALID_VALUE'],
    ['host.capacityBytes', { host: {} }, 'ERR_KV_INVALID_TYPE'],
    ['host.bytes', { host: { capacityBytes: 1, bytes: 1 } }, 'ERR_KV_INVALID_VALUE'],
    ['device.kind', { device: { slots: 1 } }, 'ERR_KV_INVALID_VALUE'],
    ['device.slots', { device: { kind: 'host', slots: 0 } }, 'ERR_KV_INVALID_VALUE'],
    ['device.slots', { device: { kind: 'host', slots: '8' } }, 'ERR_KV_INVALID_TYPE'],
    ['device.layout', { device: { kind: 'host', slots: 1, layout: 'rows' } }, 'ERR_KV_INVALID_VALUE'],
    ['device.regions', { device: { kind: 'host', slots: 1, regions: 5 } }, 'ERR_KV_INVALID_TYPE'],
    [
      'device.regions.full',
      { device: { kind: 'host', slots: 1, regions: { full: new Uint8Array() } } },
      'ERR_KV_INVALID_TYPE',
    ],
    ['disk.directory', { disk: { capacityBytes: 1 } }, 'ERR_KV_INVALID_TYPE'],
    ['disk.directory', { disk: { directory: '', capacityBytes: 1 } }, 'ERR_KV_INVALID_VALUE'],
    ['disk.capacityBytes', { disk: { directory: 'x' } }, 'ERR_KV_INVALID_TYPE'],
    ['disk.direct', { disk: { directory: 'x', capacityBytes: 1, direct: 'yes' } }, 'ERR_KV_INVALID_TYPE'],
    ['disk.gpuDirect', { disk: { directory: 'x', capacityBytes: 1, gpuDirect: true } }, 'ERR_KV_INVALID_VALUE'],
    ['disk.path', { disk: { directory: 'x', capacityBytes: 1, path: 'x' } }, 'ERR_KV_INVALID_VALUE'],
    ['quotas', { quotas: [] }, 'ERR_KV_INVALID_TYPE'],
    ['quotas.a', { quotas: { a: 5 } }, 'ERR_KV_INVALID_TYPE'],
    ['quotas.a.hostBytes', { quotas: { a: { hostBytes: -1 } } }, 'ERR_KV_INVALID_VALUE'],
    ['quotas.a.hostBytes', { quotas: { a: { hostBytes: Number.NaN } } }, 'ERR_KV_INVALID_VALUE'],
    ['quotas.a.diskBytes', { quotas: { a: { diskBytes: -1 } } }, 'ERR_KV_INVALID_VALUE'],
    ['quotas.a.bytes', { quotas: { a: { bytes: 1 } } }, 'ERR_KV_INVALID_VALUE'],
    ['secret', { secret: 5 }, 'ERR_KV_INVALID_TYPE'],
    ['secret', { secret: new Uint8Array(15) }, 'ERR_KV_INVALID_VALUE'],
    ['leaveLastBlock', { leaveLastBlock: null }, 'ERR_KV_INVALID_TYPE'],
    ['deadlineMs', { deadlineMs: 2 ** 31 }, 'ERR_KV_INVALID_VALUE'],
    ['flushOnClose', { flushOnClose: 0 }, 'ERR_KV_INVALID_TYPE'],
    ['engine', { engine: 8 }, 'ERR_KV_INVALID_TYPE'],
    ['engine.threads', { engine: { threads: 65 } }, 'ERR_KV_INVALID_VALUE'],
    ['engine.queueBlocks', { engine: { queueBlocks: 0 } }, 'ERR_KV_INVALID_VALUE'],
    ['engine.readBytesInFlight', { engine: { readBytesInFlight: 0 } }, 'ERR_KV_INVALID_VALUE'],
    ['engine.fibers', { engine: { fibers: 1 } }, 'ERR_KV_INVALID_VALUE'],
  ]
  test.each(wrong)('name %s when %j is wrong', (name, change, code) => {
    const error = errorOf(code as 'ERR_KV_INVALID_TYPE', () =>
      resolveOptions({ ...LEAST, ...change } as ManagerOptions),
    )
    expect(error.message).toContain(name)
  })

  test('may not be anything but an object', () => {
    for (const value of [undefined, null, 5, 'x', []]) {
      errorOf('ERR_KV_INVALID_TYPE', () => resolveOptions(value as unknown as ManagerOptions))
    }
  })
})
