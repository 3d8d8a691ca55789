/**
 * Kills a writing process with SIGKILL at random times, again and again, and checks with its successor that no byte is
 * wrong and that nothing whose outcome was `disk` is lost.
 *
 *   npm run test:crash -- --cycles 1000 [--seed N] [--buffered] [--unverified] [--json]
 *
 * A block may be missing when it was evicted since: only the sequences stored last, which the policy cannot have chosen,
 * must be there. With --unverified it uses the build whose verification is compiled out, which must serve wrong bytes.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const CHILD = fileURLToPath(new URL('./child.js', import.meta.url))
const BLOCKS = 4
/** 24 sequences fit; two are being written and two slots of doubt remain. */
const SURELY_HELD = 20
/** Numbers before those that are looked for as well, for wrong bytes only: their slots were being overwritten. */
const OLDER_CHECKED = 32
const STUCK_MS = 60_000

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    buffered: { type: 'boolean', default: false },
    unverified: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

let state = Number(values.seed) >>> 0 || 1
/** A seeded number from 0 to 1. */
function random() {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  state >>>= 0
  return state / 2 ** 32
}

/**
 * One process, from its start to its death.
 *
 * @param {object} task
 * @param {{ early: boolean, delayMs: number }} kill - after its start (early), or after it began to write
 * @returns {Promise<{ facts: any[], failure: string }>}
 */
function runChild(task, kill) {
  return new Promise((resolve, reject) => {
    const addon = join(root, 'build', 'testing', values.unverified ? 'kvtier_unverified.node' : 'kvtier_testing.node')
    const child = spawn(process.execPath, [CHILD, JSON.stringify(task)], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, KVTIER_ADDON: addon },
    })
    let text = ''
    let errors = ''
    const killer = () => child.kill('SIGKILL')
    const stuck = setTimeout(killer, STUCK_MS)
    if (kill.early) setTimeout(killer, kill.delayMs)
    child.stderr.on('data', (chunk) => {
      errors += chunk
    })
    child.stdio[3]?.on('data', (chunk) => {
      const before = text.includes('"writing"')
      text += chunk
      if (!kill.early && !before && text.includes('"writing"')) setTimeout(killer, kill.delayMs)
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      clearTimeout(stuck)
      const lines = text.split('\n')
      // The last piece is empty, or a line that the kill cut short.
      const facts = lines.slice(0, -1).map((line) => JSON.parse(line))
      resolve({ facts, failure: signal === 'SIGKILL' ? '' : `ended by itself (${code ?? signal}): ${errors.trim()}` })
    })
  })
}

async function main() {
  const cycles = Number(values.cycles)
  const directory = mkdtempSync(join(tmpdir(), 'kvtier-crash-'))
  const totals = { cycles, stored: 0, checked: 0, held: 0, wrongBlocks: 0, lostBlocks: 0, refused: 0, earlyKills: 0 }
  /** @type {number[]} */
  let mustBeHeld = []
  let next = 1
  const started = performance.now()
  try {
    for (let cycle = 0; cycle <= cycles; cycle++) {
      const last = cycle === cycles
      const early = !last && random() < 0.1
      const first = Math.max(1, next - SURELY_HELD - OLDER_CHECKED)
      const recent = Array.from({ length: next - first }, (_, i) => first + i)
      const check = [...new Set([...mustBeHeld, ...recent])]
      const task = { directory, direct: !values.buffered, next, check }
      const { facts, failure } = await runChild(task, {
        early,
        delayMs: early ? random() * 120 : 0.5 + random() * 49.5,
      })
      if (failure !== '') throw new Error(`Cycle ${cycle}: the process ${failure}`)
      if (early) totals.earlyKills++
      const stored = []
      for (const fact of facts) {
        if (fact.type === 'checked') {
          totals.checked++
          totals.held += fact.held
          totals.wrongBlocks += fact.wrong
          if (mustBeHeld.includes(fact.number)) totals.lostBlocks += BLOCKS - fact.held
        } else if (fact.type === 'stored') stored.push(fact.number)
        else if (fact.type === 'refused') totals.refused++
      }
      if (facts.some((fact) => fact.type === 'writing')) {
        mustBeHeld = stored.slice(-SURELY_HELD)
        // Numbers in flight when it died may be half-written: later cycles may find them or not, but never wrong.
        next = Math.max(next, ...stored) + 4
        totals.stored += stored.length * BLOCKS
      }
      if (process.stderr.isTTY)
        process.stderr.write(`\rcycle ${cycle} of ${cycles}: ${totals.wrongBlocks} wrong, ${totals.lostBlocks} lost`)
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  if (process.stderr.isTTY) process.stderr.write('\n')
  const seconds = Math.round((performance.now() - started) / 100) / 10
  const result = { ...totals, seed: Number(values.seed), seconds }
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else {
    for (const [name, value] of Object.entries(result)) process.stdout.write(`${name.padEnd(12)} ${value}\n`)
    process.stdout.write(totals.wrongBlocks + totals.lostBlocks === 0 ? 'ok\n' : 'FAILED: wrong or lost blocks\n')
  }
  process.exitCode = totals.wrongBlocks + totals.lostBlocks === 0 ? 0 : 1
}

await main()
