/** A worker thread whose only transfer, a load into its borrowed memory, starts when its parent says so. */
import { parentPort, workerData } from 'node:worker_threads'
import { openTiers } from './in-flight.js'

const { addon, start, requests } = await openTiers(workerData.folder)
parentPort.once('message', () => start((ticket) => addon.startTransfer(ticket, requests.load)))
parentPort.postMessage('ready')
