/** A worker thread with a manager of its own under load; tells its parent when transfers are in flight. */
import { parentPort, workerData } from 'node:worker_threads'
import { openManager, startMany } from './under-load.js'

const { directory, close } = workerData
const manager = await openManager(directory)
const transfers = await startMany(manager, 60)
parentPort.postMessage('started')
await Promise.all(transfers.map((each) => each.settled))
if (close) await manager.close()
