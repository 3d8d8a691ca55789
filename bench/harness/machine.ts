/** Where a report comes from: commit, machine, and how busy the machine is. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'

/** The machine a report was made on. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryBytes: number
  readonly kernel: string
  readonly node: string
  /** Transparent huge pages: `always`, `madvise` or `never`; null where the system does not say. */
  readonly hugePages: string | null
}

/** How busy the machine is. Without pressure numbers (null) the system does not give any. */
export interface Load {
  /** Runnable threads, average of the last minute. */
  readonly average: number
  /** Share of time, in percent of the last 10 seconds, in which something waited for a processor. */
  readonly cpuPressure: number | null
  /** The same for disks. */
  readonly ioPressure: number | null
}

/** What the sources were when the report was made. */
export interface Sources {
  /** The commit's id; null where there is no repository or no commit. */
  readonly commit: string | null
  /** Whether files differ from the commit. */
  readonly modified: boolean
}

function read(path: string): string | null {
  return existsSync(path) ? readFileSync(path, 'utf8') : null
}

/** The machine this process runs on. */
export function machineOf(): Machine {
  const hugePages = /\[(\w+)\]/.exec(read('/sys/kernel/mm/transparent_hugepage/enabled') ?? '')?.[1] ?? null
  return {
    cpu: cpus()[0]?.model.trim() ?? process.arch,
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.versions.node,
    hugePages,
  }
}

/** `some avg10` of a /proc/pressure file's text; null when there is none. */
export function pressureOf(text: string | null): number | null {
  const share = /^some avg10=([\d.]+)/m.exec(text ?? '')?.[1]
  return share === undefined ? null : Number(share)
}

/** How busy the machine is now. */
export function loadNow(): Load {
  return {
    average: Number((loadavg()[0] ?? 0).toFixed(2)),
    cpuPressure: pressureOf(read('/proc/pressure/cpu')),
    ioPressure: pressureOf(read('/proc/pressure/io')),
  }
}

/** The commit of a checkout. */
export function sourcesOf(root: string): Sources {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    return { commit: git('rev-parse', '--verify', 'HEAD'), modified: git('status', '--porcelain') !== '' }
  } catch {
    return { commit: null, modified: false }
  }
}
