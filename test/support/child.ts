/** Programs that a test runs in a process of their own, to their end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'

/** How a program ended, and what it said. */
export interface ChildEnd {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

/** The end of a program that did what it should and complained of nothing; what it printed is the test's to say. */
export const CLEAN_END = { code: 0, signal: null, stderr: '' } as const

/** Collects what a child says, and resolves when it has ended. */
export async function endOf(child: ChildProcess): Promise<ChildEnd> {
  // Not 'close', which a child whose channel this side closed never reports.
  const ended = new Promise<Pick<ChildEnd, 'code' | 'signal'>>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  const said = [child.stdout, child.stderr].map((stream) => (stream === null ? '' : text(stream)))
  const [end, stdout = '', stderr = ''] = await Promise.all([ended, ...said])
  return { ...end, stdout, stderr }
}

/** Runs a script with this Node. */
export async function runScript(path: string, args: readonly string[], cwd?: string): Promise<ChildEnd> {
  return await endOf(spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd }))
}
