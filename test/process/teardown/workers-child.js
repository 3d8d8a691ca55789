/**
 * Starts and ends worker threads, over and over: of each four, two are terminated with transfers in flight and two come to
 * their end. The first argument is a folder for their stores, the second the number of rounds.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { startMany } from './in-flight.js'

const [folder, rounds] = process.argv.slice(2)

async function runWorker(number, terminated) {
  const own = join(folder, `worker-${number}`)
  mkdirSync(own, { recursive: true, mode: 0o700 })
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: { folder: own } })
  const ended = new Promise((resolve, reject) => {
    worker.once('exit', resolve)
    worker.once('error', reject)
  })
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  if (terminated) await worker.terminate()
  await ended
}

// In every second round the process has a share of the engine too.
for (let round = 0; round < Number(rounds); round++) {
  await Promise.all([0, 1, 2, 3].map((number) => runWorker(number, number % 2 === 0)))
  if (round === Math.floor(Number(rounds) / 2)) {
    const own = join(folder, 'main')
    mkdirSync(own, { recursive: true, mode: 0o700 })
    await startMany(own, 300)
  }
}
process.stdout.write('rounds done\n')
