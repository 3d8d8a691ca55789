/**
 * Ends a worker thread, or the whole process, while a disk does not answer that worker's load into memory of the addon's
 * own. Arguments: a folder for the store; `terminate` or `exit`; `shared` when this thread uses the engine too.
 */
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { openAddon } from './in-flight.js'

const [folder, way, engine] = process.argv.slice(2)
const { testing } = engine === 'shared' ? openAddon().addon : createRequire(import.meta.url)(process.env.KVTIER_ADDON)
const turn = () => new Promise((resolve) => setImmediate(resolve))

const worker = new Worker(new URL('./hung-worker.js', import.meta.url), { workerData: { folder } })
await once(worker, 'message')
testing.holdIo()
worker.postMessage('go')
while (testing.heldIo() === 0) await turn()
if (way === 'exit') process.exit(0)
await worker.terminate()
console.log(`ended with ${testing.heldIo()} call held`)
testing.releaseIo()
while (testing.heldIo() > 0) await turn()
// What was left has ended, or will; another thread finds an engine that works.
const next = new Worker(new URL('./worker.js', import.meta.url), { workerData: { folder: `${folder}/next` } })
await once(next, 'exit')
console.log('next ended')
