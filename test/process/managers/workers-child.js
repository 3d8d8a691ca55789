/**
 * Starts and ends worker threads with managers, over and over: of each four, two are terminated with transfers in flight,
 * one closes its manager and one ends with it open. Afterwards each directory is opened in this thread and checked. The
 * first argument is a folder for their stores, the second the number of rounds.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { countWrong } from './under-load.js'

const [folder, rounds] = process.argv.slice(2)

async function runWorker(number) {
  const directory = join(folder, `worker-${number}`)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: { directory, close: number % 4 === 2 },
  })
  const ended = new Promise((resolve, reject) => {
    worker.once('exit', resolve)
    worker.once('error', reject)
  })
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  if (number % 4 < 2) await worker.terminate()
  await ended
  return await countWrong(directory)
}

for (let round = 0; round < Number(rounds); round++) {
  const wrong = await Promise.all([0, 1, 2, 3].map(runWorker))
  if (wrong.some((each) => each !== 0)) console.log(`round ${round}: wrong blocks ${wrong}`)
}
console.log('rounds done')
