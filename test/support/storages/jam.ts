/** Transfers that wait for I/O on engine threads, so that what needs the disk next waits behind them. */
import { onTestFinished } from 'vitest'

import { binding } from '../../../lib/native/binding.ts'
import { type BatchReport, hashesOf, numbers, startBatch, temporaryFolder } from '../../native-binding/harness.ts'
import { testing, untilHeld } from '../io.ts'
import { slab } from './slab.ts'

/** As many of the four threads that the harness's engine has as one disk may have. */
export const DISK_THREADS = 2

/** I/O that a test holds and lets go. */
export class Jam {
  readonly #start: (slot: number) => Promise<BatchReport>
  #waiting: Promise<BatchReport>[] = []

  private constructor(start: (slot: number) => Promise<BatchReport>) {
    this.#start = start
  }

  /** Makes ready; nothing is held yet. Whatever the test does, nothing is held after it. */
  static async open(): Promise<Jam> {
    const shape = { parts: 1, layers: 1, outer: 1, tokensPerBlock: 1, bytesPerToken: 1 } as const
    const opened = await slab(true).open({
      place: temporaryFolder(),
      shape,
      slotCount: DISK_THREADS,
      keepOrphans: false,
    })
    const jam = new Jam((slot) => {
      const request = {
        path: 'slabCheck',
        onboard: true,
        source: opened.storage,
        via: null,
        target: opened.storage,
        moves: Uint32Array.of(slot, 0, 0),
        hashes: hashesOf([slot]),
        parents: null,
        records: null,
      } as const
      return startBatch((ticket) => binding.startTransfer(ticket, request)).done
    })
    onTestFinished(async () => {
      await jam.release()
      await opened.close()
    })
    return jam
  }

  /** From now on every I/O call waits, and `threads` of the engine's threads do. */
  async hold(threads: number): Promise<void> {
    testing.holdIo()
    const before = testing.heldIo()
    this.#waiting = numbers(threads).map(this.#start)
    await untilHeld(before + threads)
  }

  /** Lets all I/O go on. */
  async release(): Promise<void> {
    testing.releaseIo()
    for (const waiting of this.#waiting.splice(0)) await (await waiting).settled
  }
}
