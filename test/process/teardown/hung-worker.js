/** A worker thread whose only transfer, a load into memory of the addon's own, starts when its parent says so. */
import { parentPort, workerData } from 'node:worker_threads'
import { openTiers } from './in-flight.js'

const { addon, start, requests } = await openTiers(workerData.folder)
const load = { ...requests.load, path: 'slabToMemory', target: requests.write.source }
parentPort.once('message', () => start((ticket) => addon.startTransfer(ticket, load)))
parentPort.postMessage('ready')
