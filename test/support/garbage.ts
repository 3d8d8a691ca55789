/** The garbage collector, on demand, and memory that JavaScript takes away from its owner. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collector: (() => void) | null = null

/** Collects everything that nothing refers to and that no code of this turn of the event loop has seen. */
export function collect(): void {
  if (collector === null) {
    setFlagsFromString('--expose-gc')
    collector = runInNewContext('gc') as () => void
  }
  collector()
}

/** Collects until `condition` is true, a turn of the event loop each time; the test's own timeout bounds it. */
export async function collectUntil(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
}

/** Detaches a buffer as nothing but the engine itself can on every version of Node.js; its memory is let go at once. */
export function detachByEngine(buffer: ArrayBuffer): void {
  setFlagsFromString('--allow-natives-syntax')
  try {
    // Compiled at its first call, so that the flag stays until then.
    const detach = runInNewContext('(buffer) => %ArrayBufferDetach(buffer)') as (buffer: ArrayBuffer) => void
    detach(buffer)
  } finally {
    setFlagsFromString('--no-allow-natives-syntax')
  }
}

type WithTransfer = ArrayBuffer & { transfer?: () => ArrayBuffer }

/** Why {@link takeMemory} cannot be tested here; empty where it can. */
export const CANNOT_TAKE: string =
  typeof (ArrayBuffer.prototype as WithTransfer).transfer === 'function'
    ? ''
    : `Node.js ${process.version} has no ArrayBuffer.prototype.transfer`

/** Detaches a buffer and gives its memory to another one (Node.js 22 and later). */
export function takeMemory(buffer: ArrayBuffer): ArrayBuffer {
  const taken = (buffer as WithTransfer).transfer?.()
  if (taken === undefined) throw new Error(CANNOT_TAKE)
  return taken
}
