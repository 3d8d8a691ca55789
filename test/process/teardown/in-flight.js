/**
 * Puts an environment under load on the bare addon: transfers through host memory, borrowed memory and a slab, most of
 * which are in flight when it returns. Plain JavaScript, so that worker threads and child processes run it as it is.
 */
import { createRequire } from 'node:module'

const SHAPE = { parts: 1, layers: 4, outer: 2, tokensPerBlock: 16, bytesPerToken: 256 }
const STRIDE = 32 * 1024
const SLOTS = 64
const NO_SLOT = 0xffffffff

/**
 * The addon, initialized, with an engine, and a way to wait for tickets; `onSettle` is called before each report.
 */
export function openAddon(onSettle = () => undefined) {
  const addon = createRequire(import.meta.url)(process.env.KVTIER_ADDON)
  const words = new Uint32Array(32 * 1024)
  const waiting = new Map()
  let next = 1
  addon.initialize({
    makeError: (code, message) => Object.assign(new Error(message), { code }),
    completions: words,
    settle: (count) => {
      onSettle()
      for (let at = 0; at < count; at += 4 + Math.ceil(words[at + 3] / 2)) {
        const ticket = words[at]
        const waits = waiting.get(ticket)
        if (words[at + 1] & 1) waits.done({ code: words[at + 2], result: addon.takeResult(ticket) })
        if (words[at + 1] & 2) {
          waiting.delete(ticket)
          waits.settled()
        }
      }
    },
  })
  addon.openEngine({ threads: 4, readBytesInFlight: 1 << 20, writeBytesInFlight: 1 << 20, queueBlocks: 1 << 20 })
  /** Starts a call; resolves with { code, result } when it is done. */
  const start = (call) =>
    new Promise((resolve) => {
      const ticket = next++
      waiting.set(ticket, { done: resolve, settled: () => undefined })
      call(ticket)
    })
  return { addon, start, waiting, words }
}

/** Opens host memory, borrowed memory and a slab that holds 16 blocks; gives what transfers between them need. */
export async function openTiers(folder) {
  const { addon, start, waiting } = openAddon()
  const value = async (call) => {
    const { code, result } = await start(call)
    if (code !== 0) throw new Error(`a call failed with code ${code}`)
    return result
  }
  const host = await value((t) => addon.startOpenMemory(t, 'contiguous', SHAPE, SLOTS))
  const { store } = await value((t) => addon.startOpenStore(t, folder, new Uint8Array(32).fill(3)))
  const { storage: slab } = await value((t) => addon.startOpenSlab(t, store, 0, SHAPE, SLOTS, true, false))
  const borrowed = addon.borrowMemory('contiguous', SHAPE, SLOTS, [new Uint8Array(STRIDE * SLOTS)])
  const hashes = new Uint8Array(16 * 32).fill(1)
  const slots = Uint32Array.from({ length: 16 }, (_, i) => i)
  const request = (path, source, target, onboard) => ({
    path,
    onboard,
    source,
    via: null,
    target,
    moves: Uint32Array.from({ length: 48 }, (_, i) => (i % 3 === 1 ? NO_SLOT : Math.floor(i / 3))),
    hashes,
    parents: new Uint8Array(16 * 32),
    records: new Uint32Array(16 * 5),
  })
  const requests = {
    fill: request('memoryToMemory', host, borrowed, false),
    write: request('memoryToSlab', host, slab, false),
    load: request('slabToMemoryVia', slab, borrowed, true),
    gather: request('memoryToMemoryChecked', borrowed, host, false),
    check: request('slabCheck', slab, slab, true),
  }
  await value((t) => addon.startFillPattern(t, host, slots, hashes))
  await value((t) => addon.startSeal(t, host, slots, hashes))
  await value((t) => addon.startTransfer(t, requests.write))
  return { addon, start, waiting, requests }
}

/** Opens the tiers and starts `count` transfers of 16 blocks each; returns without waiting for one of them. */
export async function startMany(folder, count) {
  const { addon, start, waiting, requests } = await openTiers(folder)
  const order = Object.values(requests)
  const transfers = []
  for (let i = 0; i < count; i++) {
    transfers.push(start((t) => addon.startTransfer(t, order[i % order.length])))
    if (i % 7 === 3) addon.cancel(1 + Math.floor(Math.random() * i), 24)
  }
  return { addon, waiting, transfers }
}
