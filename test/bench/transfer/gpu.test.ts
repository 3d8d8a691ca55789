import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Report } from '../../../bench/harness/report.js'
import { temporaryFolder } from '../../support/folder.js'

const folder = dirname(process.env.KVTIER_ADDON ?? '')
const limitsFile = join(folder, 'limits.node')
const driver = join(folder, 'libkvtier_sim_cuda.so')
// Sanitizers' builds have no limits, and other systems no simulated driver.
const isBuilt = existsSync(limitsFile) && existsSync(driver)
const script = fileURLToPath(new URL('../../../scripts/bench.js', import.meta.url))

function bench(library: string, simulation: string, ...args: string[]): { status: number | null; stdout: string } {
  const environment = {
    KVTIER_LIMITS: limitsFile,
    KVTIER_CUDA_LIBRARY: library,
    KVTIER_SIM_CUDA: simulation,
  }
  const ran = spawnSync(process.execPath, [script, '--suite', 'transfer', '--quick', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  })
  return { status: ran.status, stdout: ran.stdout }
}

describe.skipIf(!isBuilt)('the benchmarks of GPU transfers', () => {
  it('check every byte of every way on the simulated driver, without a violation, and claim no speed', () => {
    const violations = join(temporaryFolder(), 'violations')
    const { status, stdout } = bench(driver, `report=${violations}`, '--only', 'GPU, 1 KiB x 16', '--json')
    expect(status).toBe(0)
    const report = JSON.parse(stdout) as Report
    expect(report.simulated).toBe(true)
    const subjects = new Set(report.results.map((result) => result.parameters.subject))
    for (const subject of ['engine', 'engine-checked', 'only-single', 'only-batch', 'loop', 'batch-any', 'copier']) {
      expect(subjects).toContain(subject)
    }
    const directions = new Set(report.results.map((result) => result.parameters.direction))
    expect([...directions]).toEqual(['away', 'towards', 'both'])
    for (const result of report.results) {
      expect(result.value).toBeGreaterThan(0)
      expect(result).toMatchObject({ ratio: null, limit: null, met: null, n: 2, parameters: { simulated: true } })
    }
    expect(readFileSync(violations, 'utf8')).toContain(' 0 violations, 0 allocations, 0 registrations')
  })

  it('end with an error where work of the device fails', () => {
    const { status, stdout } = bench(driver, 'fail_work=copy:40:700', '--only', 'GPU, 1 KiB x 16', '--json')
    expect(status).not.toBe(0)
    expect(stdout).not.toContain('"results"')
  })

  it('are left out without a driver, in one line that says why, and that is no failure', () => {
    const { status, stdout } = bench('libnone.so.9', '', '--only', 'GPU')
    expect(status).toBe(0)
    const lines = stdout.split('\n').filter((line) => line.startsWith('skipped:'))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/^skipped: transfer, GPU, .* and \d+ more: no GPU to measure: .*libnone\.so\.9/)
  })
})
