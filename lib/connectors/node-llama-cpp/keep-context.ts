/**
 * Keeps a context while its state is saved or loaded: the engine takes no hold for that, and frees under its own feet what
 * a worker thread still reads when the context, or its model, is disposed meanwhile.
 */
import { KvError } from '../../errors.js'
import type { EngineContext } from './engine.js'

interface Hold {
  running: number
  closing: boolean
  readonly idle: Promise<void>
  readonly end: () => void
}

const holds = new WeakMap<EngineContext, Hold>()

/**
 * Runs `work`; a disposal that is asked for meanwhile begins when it has ended.
 *
 * @throws KvError ERR_KV_CLOSED when the context was, or is about to be, disposed; what `work` threw
 */
export async function keepingContext<T>(context: EngineContext, work: () => Promise<T>): Promise<T> {
  const hold = holds.get(context) ?? begin(context)
  if (context.disposed || hold.closing) {
    if (hold.running === 0) hold.end()
    throw new KvError('ERR_KV_CLOSED', 'The context of node-llama-cpp was disposed.')
  }
  hold.running++
  try {
    return await work()
  } finally {
    if (--hold.running === 0) hold.end()
  }
}

/** Takes over the context's `dispose`, which its model calls too, until nothing runs. */
function begin(context: EngineContext): Hold {
  const target = context as { dispose: () => Promise<void> }
  const own = Object.hasOwn(target, 'dispose')
  const original = target.dispose
  let resolve: () => void = () => undefined
  const idle = new Promise<void>((ended) => {
    resolve = ended
  })
  const waiting = async (): Promise<void> => {
    hold.closing = true
    await idle
    await original.call(context)
  }
  const hold: Hold = {
    running: 0,
    closing: false,
    idle,
    end: () => {
      holds.delete(context)
      if (target.dispose === waiting) {
        if (own) target.dispose = original
        else delete (target as { dispose?: unknown }).dispose
      }
      resolve()
    },
  }
  target.dispose = waiting
  holds.set(context, hold)
  return hold
}
