/** A worker thread under load; tells its parent when transfers are in flight. */
import { parentPort, workerData } from 'node:worker_threads'
import { startMany } from './in-flight.js'

const { transfers } = await startMany(workerData.folder, 300)
parentPort.postMessage('started')
await Promise.all(transfers)
