/**
 * Terminates a worker thread while a load into its borrowed memory is held in the I/O seam: the thread must not end, and
 * its memory not go, before the load has ended. Prints what happened. The first argument is a folder for the store.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { openAddon } from './in-flight.js'

const folder = process.argv[2]
const { addon } = openAddon()
const worker = new Worker(new URL('./held-worker.js', import.meta.url), { workerData: { folder } })
await once(worker, 'message')
addon.testing.holdIo()
worker.postMessage('go')
while (addon.testing.heldIo() === 0) await new Promise((resolve) => setImmediate(resolve))
let ended = false
const terminated = worker.terminate().then(() => {
  ended = true
})
// Longer than the other's end takes if it does not wait: a thread that starts and ends after it.
for (let i = 0; i < 3; i++) await new Worker('', { eval: true }).terminate()
console.log(ended ? 'ended while its memory was in use' : 'waits')
addon.testing.releaseIo()
await terminated
console.log('ended')
