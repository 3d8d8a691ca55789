/** A worker thread that builds and reads state images of 16 MiB until it is terminated. */
import { parentPort } from 'node:worker_threads'
import { openAddon } from '../../process/teardown/in-flight.js'

const SLOTS = 16
const TOKENS = 64
const BYTES_PER_TOKEN = 16 * 1024
const { addon, start } = openAddon()

async function value(call) {
  const { code, result } = await start(call)
  if (code !== 0) throw new Error(`a call failed with code ${code}`)
  return result
}

const shape = { parts: 1, layers: 1, outer: 1, tokensPerBlock: TOKENS, bytesPerToken: BYTES_PER_TOKEN }
const storage = await value((t) => addon.startOpenMemory(t, 'contiguous', shape, SLOTS))
const slots = Uint32Array.from({ length: SLOTS }, (_, i) => i)
const hashes = new Uint8Array(SLOTS * 32).fill(1)
await value((t) => addon.startSeal(t, storage, slots, hashes))
// One attention cache of one layer whose rows of K and V are half a token's bytes each.
const words = Uint32Array.from([
  0x4b564901,
  3,
  1,
  0,
  1,
  0,
  0,
  0,
  1,
  1,
  1,
  BYTES_PER_TOKEN / 2,
  1,
  BYTES_PER_TOKEN / 2,
  0,
])
const tokens = new Uint32Array(SLOTS * TOKENS)

async function use(image) {
  for (;;) {
    await value((t) => addon.startBuildImage(t, image, words, tokens, [{ storage, firstBlock: 0, slots, hashes }]))
    await value((t) => addon.startReadImage(t, image, 'llama', ['attention'], tokens.length))
    await value((t) => addon.startCutImage(t, image, 0, storage, new Uint32Array([3, 3])))
    await value((t) => addon.startSeal(t, storage, new Uint32Array([3]), new Uint8Array(32).fill(1)))
    parentPort.postMessage('under way')
  }
}
await Promise.all([use(addon.openImage()), use(addon.openImage())])
