/**
 * Starts worker threads that use state images and terminates them in the middle of it, over and over; then says how many of
 * the files are still open. The first argument is the number of rounds.
 */
import { readdirSync, readlinkSync } from 'node:fs'
import { Worker } from 'node:worker_threads'

const rounds = Number(process.argv[2])

function openImages() {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('kvtier-image')
    } catch {
      return false
    }
  }).length
}

for (let round = 0; round < rounds; round++) {
  const worker = new Worker(new URL('./worker.js', import.meta.url))
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  await worker.terminate()
}
process.stdout.write(`rounds done, ${openImages()} left\n`)
