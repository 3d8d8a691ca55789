/**
 * A worker thread takes a window's memory, hands it to this thread and ends. Writes into it, and prints what is there.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

const worker = new Worker(new URL('./taken-window-worker.js', import.meta.url))
const [taken] = await once(worker, 'message')
await once(worker, 'exit')
const bytes = new Uint8Array(taken).fill(9)
console.log(bytes[bytes.length - 1])
