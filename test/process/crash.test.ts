/** The crash test of test/process/crash/, and proof that it would notice. KVTIER_LONG=1 runs 1000 cycles. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { runScript } from '../support/child.ts'

const CYCLES = process.env.KVTIER_LONG === '1' ? 1000 : 100
/** Without verification a wrong byte comes in a few cycles, but when it comes depends on the machine: some more tries. */
const UNVERIFIED_CYCLES = 60
const UNVERIFIED_TRIES = 8

interface Totals {
  readonly cycles: number
  readonly stored: number
  readonly checked: number
  readonly held: number
  readonly wrongBlocks: number
  readonly lostBlocks: number
}

async function runCrash(...args: string[]): Promise<{ code: number | null; totals: Totals }> {
  const path = fileURLToPath(new URL('./crash/run.js', import.meta.url))
  const { code, stdout, stderr } = await runScript(path, ['--json', ...args])
  try {
    return { code, totals: JSON.parse(stdout) as Totals }
  } catch {
    throw new Error(`the crash test ended with ${code} and no result: ${stderr}`)
  }
}

test('a writing process that is killed again and again leaves no wrong byte, and loses nothing that reached disk', {
  timeout: 3_600_000,
}, async () => {
  const { code, totals } = await runCrash('--cycles', `${CYCLES}`)
  expect(totals).toMatchObject({ cycles: CYCLES, wrongBlocks: 0, lostBlocks: 0 })
  expect(totals.stored).toBeGreaterThan(0)
  expect(totals.held).toBeGreaterThan(0)
  expect(code).toBe(0)
})

test('the same finds wrong bytes in a build that does not verify', { timeout: 3_600_000 }, async () => {
  let found = { code: 0 as number | null, wrongBlocks: 0 }
  for (let seed = 1; found.wrongBlocks === 0 && seed <= UNVERIFIED_TRIES; seed++) {
    const { code, totals } = await runCrash('--unverified', '--cycles', `${UNVERIFIED_CYCLES}`, '--seed', `${seed}`)
    found = { code, wrongBlocks: totals.wrongBlocks }
  }
  expect(found.wrongBlocks).toBeGreaterThan(0)
  expect(found.code).toBe(1)
})
