/** A world for the command that a test owns: captured streams, a clock that stands still until it is told, a fake addon. */
import type { CliContext, Verb } from '../../lib/cli/context.js'
import { main } from '../../lib/cli/main.js'
import type { CliNative, InspectedSlab } from '../../lib/cli/native-access.js'
import type { GroupShape, StorageHandle } from '../../lib/native/binding.js'

/** What a run of the command left behind. */
export interface Ran {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** A native facade whose every call fails, to be overridden by what a test needs. */
export const NO_NATIVE: CliNative = {
  probe: () => Promise.reject(new Error('probe was not expected')),
  inspectSlab: () => Promise.reject(new Error('inspectSlab was not expected')),
  checkSlots: () => Promise.reject(new Error('checkSlots was not expected')),
  measureCopies: () => Promise.reject(new Error('measureCopies was not expected')),
  close: () => Promise.reject(new Error('close was not expected')),
}

/** Runs a command line in this process. */
export async function run(
  args: readonly string[],
  world: Partial<CliContext> & { readonly verbs?: readonly Verb[]; readonly fake?: Partial<CliNative> } = {},
): Promise<Ran> {
  const { verbs, fake, ...context } = world
  let stdout = ''
  let stderr = ''
  const exitCode = await main(
    { args, version: '1.2.3', ...(verbs === undefined ? {} : { verbs }) },
    {
      stdout: {
        write(text) {
          stdout += text
        },
      },
      stderr: {
        write(text) {
          stderr += text
        },
      },
      isTty: false,
      columns: 80,
      now: () => 0,
      signal: new AbortController().signal,
      cwd: process.cwd(),
      native: async () => ({ ...NO_NATIVE, ...fake }),
      ...context,
    },
  )
  return { exitCode, stdout, stderr }
}

/** One block of a fake table. */
export interface FakeBlock {
  readonly slot: number
  readonly depth?: number
  readonly tenantTag?: number
  readonly lastUseS?: number
  /** First byte of its hash; default: the slot. */
  readonly hash?: number
}

/** A shape of 64 bytes a block. */
export const SHAPE: GroupShape = { parts: 1, layers: 2, outer: 2, tokensPerBlock: 4, bytesPerToken: 4 }

/** An inspected slab with these blocks. */
export function fakeSlab(
  blocks: readonly FakeBlock[],
  changes: Partial<InspectedSlab['contents']> = {},
): InspectedSlab {
  const hashes = new Uint8Array(blocks.length * 32)
  blocks.forEach((block, place) => {
    hashes[place * 32] = block.hash ?? block.slot
  })
  const words = (of: (block: FakeBlock) => number | undefined): Uint32Array =>
    Uint32Array.from(blocks, (block) => of(block) ?? 0)
  return {
    storage: { fake: blocks } as unknown as StorageHandle,
    shape: SHAPE,
    slotCount: 100,
    slotsMissing: 0,
    contents: {
      hashes,
      slots: words((block) => block.slot),
      parents: new Int32Array(blocks.length).fill(-1),
      depths: words((block) => block.depth),
      tenantTags: words((block) => block.tenantTag),
      priorities: new Uint32Array(blocks.length),
      expiresAtS: new Uint32Array(blocks.length),
      lastUsesS: words((block) => block.lastUseS),
      recordsRejected: 0,
      recordsSuperseded: 0,
      recordsOrphaned: 0,
      recordsUnreadable: 0,
      ...changes,
    },
  }
}
