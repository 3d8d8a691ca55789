/**
 * What a probe's facts mean: which things this machine has, and what each one that it lacks costs. Pure functions.
 */
import type { ProbeResult } from '../native/binding.js'
import { formatBytes, formatCount, plural } from './format.js'

/** One thing that kvtier uses where it is there. */
export interface Finding {
  readonly name: string
  /** Whether it is there, and as good as it can be. */
  readonly ok: boolean
  /** What there is, in a few words. */
  readonly state: string
  /** What the lack costs; empty when ok. */
  readonly cost: string
  /** What is missing and what to do about it; empty when ok. */
  readonly remedy: string
}

function found(name: string, state: string): Finding {
  return { name, ok: true, state, cost: '', remedy: '' }
}

function lacking(name: string, state: string, cost: string, remedy: string): Finding {
  return { name, ok: false, state, cost, remedy }
}

function memlock(bytes: number, totalBytes: number): Finding {
  const name = 'locked memory'
  // Infinity where there is no limit.
  if (!Number.isSafeInteger(bytes)) return found(name, 'no limit')
  if (bytes >= totalBytes) return found(name, `limit ${formatBytes(bytes)}`)
  return lacking(
    name,
    `limit ${formatBytes(bytes)}`,
    'host memory beyond the limit cannot be locked: the system may swap it out, and io_uring may refuse to start',
    'raise it with ulimit -l unlimited, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 for a container',
  )
}

function directoryFindings(directory: NonNullable<ProbeResult['directory']>): Finding[] {
  const disk = 'disk tier'
  if (!directory.exists) {
    return [lacking(disk, 'no such directory', 'nothing outlives the process here', directory.reason)]
  }
  const place = `${directory.fileSystem || 'unknown file system'}, ${formatBytes(directory.freeBytes)} free`
  if (!directory.writable) {
    return [lacking(disk, `not writable, ${place}`, 'nothing outlives the process here', directory.reason)]
  }
  const findings = [found(disk, place)]
  if (directory.direct) findings.push(found('O_DIRECT', 'used'))
  else {
    const cost = 'disk blocks take page cache beside host memory, and reads are slower'
    findings.push(lacking('O_DIRECT', 'refused', cost, directory.reason))
  }
  return findings
}

/** Each kind of device once, with its memory and what nvcc calls its kind: `2 of NVIDIA H200, 139.8 GiB, sm_90`. */
function deviceKinds(cuda: ProbeResult['cuda']): string {
  const counts = new Map<string, number>()
  for (const [ordinal, name] of cuda.devices.entries()) {
    const detail = cuda.deviceDetails[ordinal]
    const facts = detail ? [formatBytes(detail.memoryBytes), `sm_${detail.computeCapability.replace('.', '')}`] : []
    const kind = [name, ...facts].join(', ')
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return [...counts].map(([kind, count]) => (count === 1 ? kind : `${formatCount(count)} of ${kind}`)).join('; ')
}

/** Every finding of a probe, in the order in which they are printed. */
export function findingsOf(probe: ProbeResult): Finding[] {
  const { cpu, memory, hugePages, numa, cuda, cufile, ioUring, sha256 } = probe
  const driver = cuda.driverVersion === '' ? '' : ` (CUDA ${cuda.driverVersion})`
  return [
    found('processor', `${cpu.name}, ${plural(cpu.count, 'core')}`),
    found('checksum, copy', `${cpu.checksum}, ${cpu.copy}`),
    found(
      'memory',
      memory.availableBytes === null
        ? formatBytes(memory.totalBytes)
        : `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.availableBytes)} available`,
    ),
    cuda.available
      ? found('CUDA', `${deviceKinds(cuda)}${driver}`)
      : lacking(
          'CUDA',
          `${cuda.state.replaceAll('-', ' ')}${driver}`,
          'device memory is host memory; no block reaches a GPU',
          cuda.reason,
        ),
    cufile.available
      ? found('cuFile', 'usable')
      : lacking('cuFile', 'not usable', 'disk blocks reach a GPU through host memory', cufile.reason),
    ioUring.available
      ? found('io_uring', 'usable')
      : lacking('io_uring', 'not usable', 'one system call more for each read and write', ioUring.reason),
    ...(probe.directory === null ? [] : directoryFindings(probe.directory)),
    hugePages.ok
      ? found('huge pages', hugePages.mode)
      : lacking(
          'huge pages',
          hugePages.mode,
          'more page faults and slower copies in large host tiers',
          hugePages.reason,
        ),
    numa.reason === ''
      ? found('NUMA', plural(numa.nodes, 'node'))
      : lacking('NUMA', `${formatCount(numa.nodes)} assumed`, 'copies may cross sockets', numa.reason),
    memlock(memory.memlockBytes, memory.totalBytes),
    sha256.available
      ? found('SHA-256', "the process's OpenSSL, from native code")
      : lacking('SHA-256', 'node:crypto', 'long prompts are hashed on the event loop, in slices', sha256.reason),
  ]
}
