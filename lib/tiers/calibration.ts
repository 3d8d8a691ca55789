/**
 * Which way a GPU's copies take: what was measured on it before, or is measured now. A help and nothing more: whatever
 * fails here leaves the choices that suit most GPUs.
 */
import type { CopyStrategies } from '../device-options.js'
import type { Binding, CopyFigures } from '../native/binding.js'
import type { Completions } from '../native/completions.js'
import { COPY_STRATEGIES } from '../native/generated.js'
import { type ChoicesKey, readChoices, writeChoices } from './choices-file.js'
import type { Gpus } from './cuda.js'

/** What calibration needs from outside. */
export interface Calibrating {
  readonly binding: Binding
  readonly completions: Completions
  readonly gpus: Gpus
  /** Where choices are stored; null = nowhere. */
  readonly folder: string | null
}

/** What a measurement gave. */
export interface Measured {
  readonly figures: CopyFigures
  /** Whether the next process will find it. */
  readonly stored: boolean
}

/** How long opening waits for a measurement; one that takes longer counts when it ends. */
export const LONGEST_WAIT_MS = 3000

/** Choices count for all managers of this environment: what is known of each GPU, and the ways that some have forbidden. */
const known = new Map<number, Promise<Uint8Array | null>>()
const forbidden = new Map<number, number>()

/** Forgets what this process knows of GPUs; for tests. */
export function forgetChoices(): void {
  known.clear()
  forbidden.clear()
}

/** A GPU as the file of its choices names it. */
export function choicesKeyOf(gpus: Gpus, ordinal: number): ChoicesKey {
  const uuid = gpus.deviceDetails[ordinal]?.uuid ?? ''
  return { gpu: uuid === '' ? (gpus.devices[ordinal] ?? '') : uuid, driver: gpus.driverVersion }
}

/**
 * Sets which way the copies of GPUs take. Never rejects; resolves when all is set, or when measuring takes too long for
 * somebody who waits.
 */
export async function calibrate(
  calibrating: Calibrating,
  ordinals: readonly number[],
  strategies: Required<CopyStrategies>,
): Promise<void> {
  const set = setAll(calibrating, ordinals, strategies)
  let timer: NodeJS.Timeout | null = null
  const tooLong = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, LONGEST_WAIT_MS)
  })
  await Promise.race([set, tooLong])
  if (timer !== null) clearTimeout(timer)
}

async function setAll(
  calibrating: Calibrating,
  ordinals: readonly number[],
  { forbid, measure }: Required<CopyStrategies>,
): Promise<void> {
  const mask = forbid.reduce((bits, name) => bits | (1 << COPY_STRATEGIES.indexOf(name)), 0)
  // One after the other: GPUs share links, and so would disturb each other's figures.
  for (const ordinal of ordinals) {
    const bits = (forbidden.get(ordinal) ?? 0) | mask
    forbidden.set(ordinal, bits)
    if (measure === 'never') {
      if (bits !== 0) trySet(calibrating.binding, ordinal, (await known.get(ordinal)) ?? new Uint8Array(), bits)
      continue
    }
    if (measure === 'again' || !known.has(ordinal)) known.set(ordinal, choicesOf(calibrating, ordinal, measure))
    const choices = await known.get(ordinal)
    trySet(calibrating.binding, ordinal, choices ?? new Uint8Array(), forbidden.get(ordinal) ?? bits)
  }
}

/** Whether the binding took them: what a file says may be of the wrong size. */
function trySet(binding: Binding, ordinal: number, choices: Uint8Array, bits: number): boolean {
  try {
    binding.setDeviceChoices(ordinal, choices, bits)
    return true
  } catch {
    return false
  }
}

async function choicesOf(
  calibrating: Calibrating,
  ordinal: number,
  measure: 'once' | 'again',
): Promise<Uint8Array | null> {
  if (measure === 'once') {
    const stored = await readChoices(calibrating.folder, choicesKeyOf(calibrating.gpus, ordinal))
    if (stored !== null && trySet(calibrating.binding, ordinal, stored, forbidden.get(ordinal) ?? 0)) return stored
  }
  try {
    return (await measureCopies(calibrating, ordinal)).figures.choices
  } catch {
    return null
  }
}

/**
 * Measures a GPU's copies and stores the choices.
 *
 * @throws KvError what measuring failed with
 */
export async function measureCopies(calibrating: Calibrating, ordinal: number): Promise<Measured> {
  const { binding, completions, gpus, folder } = calibrating
  const figures = await completions.call<CopyFigures>((ticket) => binding.startMeasureDevice(ticket, ordinal))
  // Where nothing could be measured the choices say nothing about this GPU.
  const isMeasured = figures.cells.length > 0
  const key = choicesKeyOf(gpus, ordinal)
  return { figures, stored: isMeasured && (await writeChoices(folder, key, figures.choices)) }
}
