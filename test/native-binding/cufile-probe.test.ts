/** What a probe says of cuFile: with the simulated driver and the simulated cuFile, in a process that has neither yet. */
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'

import { binding, type ProbeResult } from '../../lib/native/binding.js'
import { completions } from '../../lib/native/completions.js'
import { temporaryFolder } from '../support/folder.ts'
import { openEngine } from './harness.js'

const BESIDE_THE_ADDON = dirname(process.env.KVTIER_ADDON ?? '')

beforeAll(() => openEngine())

/** What a probe of the folder says of cuFile. */
async function cufileIn(folder: string): Promise<ProbeResult['cufile']> {
  return (await completions().call<ProbeResult>((ticket) => binding.startProbe(ticket, folder))).cufile
}

test('a probe says why cuFile is off, tries it where it is on, and silences its log', async (context) => {
  if (process.platform !== 'linux') context.skip('the simulated driver is for Linux')
  const folder = temporaryFolder()
  delete process.env.CUFILE_LOGFILE_PATH
  process.env.KVTIER_CUDA_LIBRARY = join(BESIDE_THE_ADDON, 'libkvtier_sim_cuda.so')
  const off = await cufileIn(folder)
  expect(off.available).toBe(false)
  expect(off.reason).toContain('KVTIER_CUFILE_LIBRARY')

  process.env.KVTIER_CUFILE_LIBRARY = join(BESIDE_THE_ADDON, 'libkvtier_sim_cufile.so')
  expect(await cufileIn(folder)).toEqual({ available: true, reason: '' })
  expect(await cufileIn('')).toEqual({ available: true, reason: '' })
  expect(readdirSync(folder)).toEqual([])
  expect(process.env.CUFILE_LOGFILE_PATH).toBe('/dev/null')

  const nowhere = await cufileIn(join(folder, 'missing'))
  expect(nowhere.available).toBe(false)
  expect(nowhere.reason).toContain(join(folder, 'missing'))
})
