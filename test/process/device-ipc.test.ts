/** Two processes and one GPU's memory: one owns it, the other moves its blocks, on the simulated driver. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { BlockManager } from '../../lib/block-manager.ts'
import type { BorrowedCudaDevice } from '../../lib/device-options.ts'
import { fence } from '../../lib/movement/fence.ts'
import { TEST_LAYOUT, testOptions, tokens } from '../support/manager.ts'
import { codesOf } from '../support/outcomes.ts'
import { expectNoViolations, sim } from '../support/sim-engine.ts'
import { hashesOf } from '../support/slots.ts'

const OWNER = fileURLToPath(new URL('./device-ipc/owner-child.js', import.meta.url))

interface Shared extends Omit<BorrowedCudaDevice, 'regions'> {
  readonly regions: { readonly full: readonly { ipc: string; offset: number; bytes: number; uuid: string }[] }
}

/** The process that owns the memory. */
class Owner {
  readonly child: ChildProcess

  constructor() {
    const { name, kind, layers, bytesPerToken } = TEST_LAYOUT.groups[0]!
    const layout = { tokensPerBlock: 4, dtype: 'test', groups: [{ name, kind, layers, bytesPerToken }] }
    this.child = fork(OWNER, [JSON.stringify(layout)])
    onTestFinished(() => void this.child.kill('SIGKILL'))
  }

  /** The answer to a command, or to having been started. */
  async ask(command: string | null, options: object = {}): Promise<unknown> {
    const answer = once(this.child, 'message')
    if (command !== null) this.child.send({ command, options })
    return ((await answer) as [{ result: unknown }])[0].result
  }

  /** Its memory, as a manager takes it. */
  async share(): Promise<BorrowedCudaDevice> {
    const { regions, ...device } = (await this.ask('share')) as Shared
    const full = regions.full.map(({ ipc, ...region }) => ({
      ...region,
      ipc: new Uint8Array(Buffer.from(ipc, 'base64')),
    }))
    return { ...device, regions: { full }, strategies: { measure: 'never' } }
  }
}

test('blocks of another process’s memory are stored and come back, byte by byte; its event is waited for', async () => {
  const owner = new Owner()
  await owner.ask(null)
  const device = await owner.share()
  expect(device).toMatchObject({ kind: 'cuda', slots: 8, layout: 'layersKvInner' })
  const manager = await BlockManager.open(testOptions(null, { device }))
  const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
  const hashes = Buffer.from(hashesOf(sequence, 0, 4)).toString('base64')
  const from = [6, 1, 4, 3]
  await owner.ask('compute', { slots: from, hashes })
  const store = sequence.offload({ from: Uint32Array.from(from), after: fence.quiet() })
  expect(codesOf(await store.done)).toEqual(Array(4).fill('OK'))
  await store.settled
  // The owner still uses the slots: what it writes must not come after what is loaded.
  const handle = new Uint8Array(Buffer.from((await owner.ask('fillHeld', { value: 9 })) as string, 'base64'))
  const into = [0, 2, 5, 7]
  const load = sequence.onboard({ into: Uint32Array.from(into), after: fence.ipc(handle) })
  await owner.ask('release')
  expect(codesOf(await load.done)).toEqual(Array(4).fill('OK'))
  await load.settled
  expect(await owner.ask('check', { slots: into, hashes })).toEqual({ verified: 4, wrong: 0 })
  expect(await owner.ask('check', { slots: from, hashes })).toEqual({ verified: 0, wrong: 4 })
  await manager.close()
  expect(sim.count('imports')).toBe(0)
  expect(await owner.ask('close')).toEqual([])
  expectNoViolations()
})

test('the owner’s death is an error with a reason: transfers are misses, the manager closes, nothing can be opened', async () => {
  const owner = new Owner()
  await owner.ask(null)
  const device = await owner.share()
  const manager = await BlockManager.open(testOptions(null, { device }))
  const sequence = manager.sequence(tokens(1, 16), { tenant: 'a' })
  const slots = Uint32Array.of(0, 1, 2, 3)
  const store = sequence.offload({ from: slots, after: fence.quiet() })
  expect(codesOf(await store.done)).toEqual(Array(4).fill('OK'))
  await store.settled
  const exit = once(owner.child, 'exit')
  owner.child.kill('SIGKILL')
  await exit
  const load = sequence.onboard({ into: slots, after: fence.quiet() })
  const loaded = await load.done
  for (const code of codesOf(loaded)) expect(code).toMatch(/^ERR_KV_(IO|INVALID_VALUE|DEVICE_LOST)$/)
  expect(loaded).toMatchObject({ tokens: 0, arrived: 0 })
  expect(loaded.message).not.toBe('')
  await load.settled
  const reading = await manager.host.load(sequence)
  expect(reading.result.tokens).toBe(16)
  reading.release()
  await manager.close()
  await expect(BlockManager.open(testOptions(null, { device }))).rejects.toMatchObject({
    code: expect.stringMatching(/^ERR_KV_(IO|UNSUPPORTED|INVALID_VALUE|DEVICE_LOST)$/),
  })
  sim.clearViolations()
})
