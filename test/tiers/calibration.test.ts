/** Which choices the binding is given, against a binding that is played. */
import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { CopyStrategies } from '../../lib/device-options.ts'
import { KvError } from '../../lib/errors.ts'
import type { Binding, CopyFigures } from '../../lib/native/binding.ts'
import type { Completions } from '../../lib/native/completions.ts'
import { calibrate, choicesKeyOf, forgetChoices, LONGEST_WAIT_MS } from '../../lib/tiers/calibration.ts'
import { readChoices, writeChoices } from '../../lib/tiers/choices-file.ts'
import type { Gpus } from '../../lib/tiers/cuda.ts'
import { temporaryFolder } from '../support/folder.ts'

const GPUS: Gpus = {
  available: true,
  reason: '',
  state: 'ready',
  driverVersion: '13.0',
  devices: ['GPU A', 'GPU B'],
  deviceDetails: [
    { memoryBytes: 1, computeCapability: '9.0', uuid: 'GPU-a', pciAddress: '' },
    { memoryBytes: 1, computeCapability: '9.0', uuid: '', pciAddress: '' },
  ],
}
const MEASURED = Uint8Array.of(3, 1, 4)
const STORED = Uint8Array.of(2, 2, 2)

/** A GPU's choices as the binding was told, the strategies forbidden as bits. */
type Told = readonly [ordinal: number, choices: readonly number[], forbidden: number]

interface Played {
  readonly told: Told[]
  readonly measured: number[]
  /** Measures that were asked for and are not over. */
  readonly ends: ((figures: CopyFigures | KvError) => void)[]
  run(ordinals: readonly number[], strategies?: CopyStrategies): Promise<void>
}

function play(folder: string | null, options: { byHand?: boolean; length?: number } = {}): Played {
  const told: Told[] = []
  const measured: number[] = []
  const ends: Played['ends'] = []
  const binding = {
    startMeasureDevice: (_ticket: number, ordinal: number) => measured.push(ordinal),
    setDeviceChoices(ordinal: number, choices: Uint8Array, forbidden: number) {
      if (choices.length > 0 && choices.length !== (options.length ?? 3)) {
        throw new KvError('ERR_KV_INVALID_VALUE', 'wrong length')
      }
      told.push([ordinal, [...choices], forbidden])
    },
  } as unknown as Binding
  const completions = {
    call: (start: (ticket: number) => void) =>
      new Promise((resolve, reject) => {
        start(1)
        const end = (figures: CopyFigures | KvError): void =>
          figures instanceof KvError ? reject(figures) : resolve(figures)
        if (options.byHand === true) ends.push(end)
        else end(figuresOf(MEASURED))
      }),
  } as unknown as Completions
  const run = (ordinals: readonly number[], strategies: CopyStrategies = {}): Promise<void> =>
    calibrate({ binding, completions, gpus: GPUS, folder }, ordinals, { forbid: [], measure: 'once', ...strategies })
  return { told, measured, ends, run }
}

function figuresOf(choices: Uint8Array): CopyFigures {
  return { cells: Uint32Array.of(0, 1, 1024, 1), figures: Float64Array.of(1, 1), choices }
}

beforeEach(forgetChoices)

describe('a GPU that was never measured', () => {
  test('is measured, and the next process finds what it gave', async () => {
    const folder = temporaryFolder()
    const first = play(folder)
    await first.run([0])
    expect([first.measured, first.told]).toEqual([[0], [[0, [...MEASURED], 0]]])
    forgetChoices()
    const next = play(folder)
    await next.run([0])
    expect([next.measured, next.told.at(-1)]).toEqual([[], [0, [...MEASURED], 0]])
  })

  test('is measured once a process, however many managers use it', async () => {
    const played = play(null)
    await played.run([0])
    await played.run([0])
    expect(played.measured).toEqual([0])
    expect(played.told).toEqual([
      [0, [...MEASURED], 0],
      [0, [...MEASURED], 0],
    ])
  })

  test('is named by its name where the driver gives no UUID, and beside others', async () => {
    expect(choicesKeyOf(GPUS, 0)).toEqual({ gpu: 'GPU-a', driver: '13.0' })
    expect(choicesKeyOf(GPUS, 1)).toEqual({ gpu: 'GPU B', driver: '13.0' })
    const folder = temporaryFolder()
    const played = play(folder)
    await played.run([0, 1])
    expect(played.measured).toEqual([0, 1])
    expect(await readChoices(folder, choicesKeyOf(GPUS, 1))).toEqual(MEASURED)
  })

  test('keeps the defaults when measuring fails, and is measured by the next process', async () => {
    const folder = temporaryFolder()
    const played = play(folder, { byHand: true })
    const done = played.run([0])
    await vi.waitUntil(() => played.ends.length === 1)
    played.ends[0]?.(new KvError('ERR_KV_OUT_OF_MEMORY', 'no memory'))
    await done
    expect(played.told).toEqual([[0, [], 0]])
    expect(await readChoices(folder, choicesKeyOf(GPUS, 0))).toBeNull()
  })

  test('is not kept where nothing could be measured', async () => {
    const folder = temporaryFolder()
    const played = play(folder, { byHand: true })
    const done = played.run([0])
    await vi.waitUntil(() => played.ends.length === 1)
    played.ends[0]?.({ ...figuresOf(MEASURED), cells: new Uint32Array() })
    await done
    expect(await readChoices(folder, choicesKeyOf(GPUS, 0))).toBeNull()
  })

  test('keeps nobody waiting for ever: what comes late counts from then on', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const played = play(null, { byHand: true })
      const done = played.run([0])
      await vi.advanceTimersByTimeAsync(LONGEST_WAIT_MS)
      await done
      expect(played.told).toEqual([])
      played.ends[0]?.(figuresOf(MEASURED))
      await vi.advanceTimersByTimeAsync(0)
      expect(played.told).toEqual([[0, [...MEASURED], 0]])
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('a GPU that was measured before', () => {
  test('is measured again where that is asked for', async () => {
    const folder = temporaryFolder()
    await writeChoices(folder, choicesKeyOf(GPUS, 0), STORED)
    const played = play(folder)
    await played.run([0])
    expect([played.measured, played.told.at(-1)]).toEqual([[], [0, [...STORED], 0]])
    await played.run([0], { measure: 'again' })
    expect([played.measured, played.told.at(-1)]).toEqual([[0], [0, [...MEASURED], 0]])
    expect(await readChoices(folder, choicesKeyOf(GPUS, 0))).toEqual(MEASURED)
  })

  test('is measured again where what was stored is not of the size that the addon takes', async () => {
    const folder = temporaryFolder()
    await writeChoices(folder, choicesKeyOf(GPUS, 0), Uint8Array.of(1))
    const played = play(folder)
    await played.run([0])
    expect([played.measured, played.told]).toEqual([[0], [[0, [...MEASURED], 0]]])
  })
})

describe('ways that are forbidden', () => {
  test('are bits, and those of all managers of the process together', async () => {
    const played = play(null)
    await played.run([0], { forbid: ['rectangle'] })
    await played.run([0], { forbid: ['staged'] })
    await played.run([0, 1])
    expect(played.told.map(([ordinal, , bits]) => [ordinal, bits])).toEqual([
      [0, 0b00010],
      [0, 0b10010],
      [0, 0b10010],
      [1, 0],
    ])
  })

  test('hold where nothing is to be measured, with the defaults or what is known', async () => {
    const played = play(null)
    await played.run([0], { measure: 'never' })
    expect(played.told).toEqual([])
    await played.run([0], { measure: 'never', forbid: ['kernel'] })
    expect(played.told).toEqual([[0, [], 0b01000]])
    await played.run([0])
    await played.run([0], { measure: 'never' })
    expect([played.measured, played.told.at(-1)]).toEqual([[0], [0, [...MEASURED], 0b01000]])
  })
})
