/**
 * Breaks what it hands to the addon, in the way of its second argument, and prints the errors of it: those that are
 * uncaught, and that of a call afterwards.
 */
import { createRequire } from 'node:module'
import { openAddon } from './in-flight.js'

const way = process.argv[3]
const tell = (error) => console.log(error.code ?? error.message)
const attempt = (call) => {
  try {
    call()
  } catch (error) {
    tell(error)
  }
}
if (way === 'resizable') {
  const makeError = (code, message) => Object.assign(new Error(message), { code })
  const lying = Object.defineProperty(new ArrayBuffer(256, { maxByteLength: 256 }), 'resizable', { value: false })
  for (const buffer of [lying, new SharedArrayBuffer(256, { maxByteLength: 512 })]) {
    const settings = { makeError, settle: () => undefined, completions: new Uint32Array(buffer) }
    attempt(() => createRequire(import.meta.url)(process.env.KVTIER_ADDON).initialize(settings))
  }
  process.exit()
}
process.on('uncaughtException', (error) => {
  tell(error)
  if (way === 'detach') attempt(() => addon.startProbe(99, ''))
})
const { start, addon, words } = openAddon(() => {
  if (way === 'throw') throw new Error('thrown by settle')
})
start((ticket) => addon.startProbe(ticket, ''))
if (way === 'detach') start((ticket) => addon.startProbe(ticket, ''))
if (way === 'detach') structuredClone(words.buffer, { transfer: [words.buffer] })
