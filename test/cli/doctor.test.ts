import { describe, expect, it } from 'vitest'

import { findingsOf } from '../../lib/cli/findings.js'
import type { MeasuredCopy } from '../../lib/cli/native-access.js'
import { CONNECTORS } from '../../lib/connectors/catalog.js'
import type { ProbeResult } from '../../lib/native/binding.js'
import { run } from './world.js'

const RICH: ProbeResult = {
  cpu: { name: 'Test CPU', count: 16, checksum: 'avx2', copy: 'avx2' },
  memory: { totalBytes: 64 * 2 ** 30, availableBytes: 60 * 2 ** 30, memlockBytes: Infinity },
  hugePages: { mode: 'madvise', ok: true, reason: '' },
  numa: { nodes: 2, reason: '' },
  cuda: {
    available: true,
    reason: '',
    state: 'ready',
    driverVersion: '13.0',
    devices: ['GPU A', 'GPU B', 'GPU B'],
    deviceDetails: [
      { memoryBytes: 16 * 2 ** 30, computeCapability: '7.5', uuid: 'a', pciAddress: '0000:01:00.0' },
      { memoryBytes: 80 * 2 ** 30, computeCapability: '9.0', uuid: 'b', pciAddress: '0000:02:00.0' },
      { memoryBytes: 80 * 2 ** 30, computeCapability: '9.0', uuid: 'c', pciAddress: '0000:03:00.0' },
    ],
  },
  cufile: { available: true, reason: '' },
  ioUring: { available: true, reason: '' },
  sha256: { available: true, reason: '' },
  directory: {
    path: '/d',
    exists: true,
    writable: true,
    fileSystem: 'ext4',
    freeBytes: 2 ** 40,
    direct: true,
    reason: '',
  },
}

const POOR: ProbeResult = {
  cpu: { name: 'Test CPU', count: 1, checksum: 'scalar', copy: 'scalar' },
  memory: { totalBytes: 2 ** 30, availableBytes: 2 ** 29, memlockBytes: 65_536 },
  hugePages: { mode: 'never', ok: false, reason: 'write madvise' },
  numa: { nodes: 1, reason: 'the system does not say' },
  cuda: {
    available: false,
    reason: 'install a driver',
    state: 'absent',
    driverVersion: '',
    devices: [],
    deviceDetails: [],
  },
  cufile: { available: false, reason: 'install cuFile' },
  ioUring: { available: false, reason: 'allow io_uring' },
  sha256: { available: false, reason: 'OpenSSL is hidden' },
  directory: {
    path: '/d',
    exists: true,
    writable: true,
    fileSystem: 'tmpfs',
    freeBytes: 2 ** 20,
    direct: false,
    reason: 'use ext4',
  },
}

const namesOf = (probe: ProbeResult): string[] =>
  findingsOf(probe)
    .filter((finding) => !finding.ok)
    .map((finding) => finding.name)

describe('findings', () => {
  it('miss nothing on a machine that has everything', () => {
    expect(namesOf(RICH)).toEqual([])
  })

  it('say for each lack what it costs and what to do', () => {
    expect(namesOf(POOR)).toEqual([
      'CUDA',
      'cuFile',
      'io_uring',
      'O_DIRECT',
      'huge pages',
      'NUMA',
      'locked memory',
      'SHA-256',
    ])
    for (const finding of findingsOf(POOR)) {
      expect(finding.cost === '').toBe(finding.ok)
      expect(finding.remedy === '').toBe(finding.ok)
    }
  })

  it('name a directory that is missing, or not writable, as the lack of a disk tier', () => {
    const directory = { ...POOR.directory!, writable: false, reason: 'not yours' }
    expect(namesOf({ ...RICH, directory })).toEqual(['disk tier'])
    expect(namesOf({ ...RICH, directory: { ...directory, exists: false } })).toEqual(['disk tier'])
    expect(namesOf({ ...RICH, directory: null })).toEqual([])
  })

  it('are content with a limit of locked memory that is no limit in fact', () => {
    expect(namesOf({ ...RICH, memory: { ...RICH.memory, memlockBytes: RICH.memory.totalBytes } })).toEqual([])
    expect(namesOf({ ...RICH, memory: { ...RICH.memory, memlockBytes: 2 ** 33 } })).toEqual(['locked memory'])
  })

  it('show the driver’s version also where it cannot be used', () => {
    const cuda = { ...POOR.cuda, state: 'too-old', driverVersion: '10.2' }
    expect(findingsOf({ ...POOR, cuda }).find((finding) => finding.name === 'CUDA')?.state).toBe('too old (CUDA 10.2)')
  })
})

describe('kvtier doctor', () => {
  it('asks about the current directory, or the one that is named', async () => {
    const asked: string[] = []
    const fake = {
      probe: async (directory: string) => {
        asked.push(directory)
        return RICH
      },
    }
    await run(['doctor'], { fake, cwd: '/somewhere' })
    await run(['doctor', 'below'], { fake, cwd: '/somewhere' })
    await run(['doctor', '/else/where'], { fake, cwd: '/somewhere' })
    expect(asked).toEqual(['/somewhere', '/somewhere/below', '/else/where'])
  })

  it('exits with 0 whatever is missing, and lists cost and remedy', async () => {
    const { exitCode, stdout, stderr } = await run(['doctor'], { fake: { probe: async () => POOR } })
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^no +CUDA +absent$/m)
    expect(stdout).toMatch(/\nCUDA\n {2}costs: .*\n {2}remedy: install a driver\n/)
    expect(stdout.split('\n').every((line) => line.length <= 80)).toBe(true)
  })

  it('says so when nothing is missing', async () => {
    const { stdout } = await run(['doctor'], { fake: { probe: async () => RICH } })
    expect(stdout).toContain('Nothing is missing.')
    const line = stdout.split('\n').find((text) => /^yes +CUDA /.test(text))
    expect(line?.replace(/^yes +CUDA +/, '')).toBe('GPU A, 16 GiB, sm_75; 2 of GPU B, 80 GiB, sm_90 (CUDA 13.0)')
  })

  it('lists every connector, with the engine that a program in the current directory has', async () => {
    const world = { fake: { probe: async () => RICH }, cwd: '/somewhere' }
    const { stdout } = await run(['doctor'], world)
    const { stdout: json } = await run(['doctor', '--json'], world)
    for (const { packageExport, enginePackage } of CONNECTORS) {
      expect(stdout).toMatch(new RegExp(`^${packageExport} +${enginePackage} \\S.* not installed$`, 'm'))
      expect(JSON.parse(json).connectors).toContainEqual(
        expect.objectContaining({ packageExport, engine: enginePackage, version: null, ok: false }),
      )
    }
  })

  it('measures copies when it is asked to, and shows the best way for each size beside single copies', async () => {
    const cell = { direction: 'to GPU', runBytes: 8192, runs: 256, queueUs: 3 } as const
    const copies: MeasuredCopy[] = [
      { ...cell, strategy: 'single', gbPerS: 4 },
      { ...cell, strategy: 'kernel', gbPerS: 40.5 },
      { ...cell, strategy: 'batch', gbPerS: 30 },
      { ...cell, strategy: 'staged', direction: 'from GPU', gbPerS: 20 },
    ]
    const gpus = [
      { ordinal: 0, name: 'GPU A\u001b[2J', kept: true, copies, failure: null },
      { ordinal: 1, name: 'GPU B', kept: false, copies: [], failure: null },
    ]
    const fake = { probe: async () => RICH, measureCopies: async () => gpus }
    const { exitCode, stdout } = await run(['doctor', '--recalibrate'], { fake })
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^GPU 0, GPU A\?\[2J$/m)
    expect(stdout).toMatch(/^to GPU +8 KiB +256 +kernel +40.5 GB\/s +4 GB\/s$/m)
    expect(stdout).toMatch(/^from GPU +8 KiB +256 +staged +20 GB\/s +-$/m)
    expect(stdout.match(/Not kept/g)?.length).toBe(1)
    const { stdout: json } = await run(['doctor', '--recalibrate', '--json'], { fake })
    expect(JSON.parse(json).copies).toEqual(gpus)
    const none = await run(['doctor', '--recalibrate'], {
      fake: { probe: async () => POOR, measureCopies: async () => [] },
    })
    expect(none.stdout).toContain('There is no GPU whose copies could be measured.')
  })

  it('shows which GPU could not be measured, and why, beside those that were, and fails', async () => {
    const gpus = [
      { ordinal: 0, name: 'GPU A', kept: false, copies: [], failure: 'out of\u001b memory' },
      { ordinal: 1, name: 'GPU B', kept: true, copies: [], failure: null },
    ]
    const fake = { probe: async () => RICH, measureCopies: async () => gpus }
    const { exitCode, stdout, stderr } = await run(['doctor', '--recalibrate'], { fake })
    expect([exitCode, stderr]).toEqual([1, ''])
    expect(stdout).toContain('\nGPU 0, GPU A\nNot measured: out of? memory\n\nGPU 1, GPU B\n')
  })

  it('measures nothing unless it is asked to', async () => {
    const { stdout } = await run(['doctor', '--json'], { fake: { probe: async () => RICH } })
    expect(JSON.parse(stdout)).not.toHaveProperty('copies')
  })

  it('prints facts and findings as JSON, an unlimited memlock as null', async () => {
    const { stdout } = await run(['doctor', '--json', '/d'], { fake: { probe: async () => RICH } })
    const result = JSON.parse(stdout)
    expect(result.directory).toBe('/d')
    expect(result.machine.cuda.devices).toEqual(['GPU A', 'GPU B', 'GPU B'])
    expect(result.machine.memory.memlockBytes).toBeNull()
    expect(result.findings[0]).toEqual({
      name: 'processor',
      ok: true,
      state: 'Test CPU, 16 cores',
      cost: '',
      remedy: '',
    })
  })
})
