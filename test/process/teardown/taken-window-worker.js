/** Opens host memory, takes a window's memory away from it, and hands it to its parent. */
import { parentPort } from 'node:worker_threads'
import { openAddon } from './in-flight.js'

const SHAPE = { parts: 1, layers: 4, outer: 2, tokensPerBlock: 16, bytesPerToken: 256 }
const { addon, start } = openAddon()
const { result } = await start((ticket) => addon.startOpenMemory(ticket, 'contiguous', SHAPE, 64))
const taken = addon.openWindow(result, 3).transfer()
parentPort.postMessage(taken, [taken])
