/** Breaks what it handed to the addon, in the way of its second argument, and prints the uncaught error of it. */
import { openAddon } from './in-flight.js'

const way = process.argv[3]
process.on('uncaughtException', (error) => console.log(error.code ?? error.message))
const { start, addon, words } = openAddon(() => {
  if (way === 'throw') throw new Error('thrown by settle')
})
start((ticket) => addon.startProbe(ticket, ''))
if (way === 'detach') structuredClone(words.buffer, { transfer: [words.buffer] })
