/**
 * The demo's server, a child process: one context with one sequence, and a LlamaChatSession for all users. It serves one
 * prompt at a time; how it makes the sequence ready for one is what the demo compares.
 */
import { loadLlama, openCpuEngine } from '../engine-packages.js'

/** @typedef {import('./messages.js').Task} Task */
/** @typedef {import('./messages.js').Reply} Reply */
/** @typedef {Extract<import('./messages.js').Request, { type: 'prompt' }>} Prompt */

const MiB = 1024 * 1024
/** Few enough that blocks must come back from disk. */
const HOST_BYTES = 8 * MiB
const DISK_BYTES = 256 * MiB

/** @param {Reply} reply */
function tell(reply) {
  process.send?.(reply)
}

/**
 * kvtier behind a context: opened on a folder, attached to the sequence.
 *
 * @param {Task} task
 * @param {import('node-llama-cpp').LlamaModel} model
 * @param {import('node-llama-cpp').LlamaContext} context
 */
async function openKvtier(task, model, context) {
  const { BlockManager } = await import('kvtier')
  const { bindNodeLlamaCpp, describeNodeLlamaCpp } = await import('kvtier/connectors/node-llama-cpp')
  const described = await describeNodeLlamaCpp({ model, context })
  const manager = await BlockManager.open({
    ...described,
    host: { capacityBytes: HOST_BYTES },
    disk: { directory: task.directory, capacityBytes: DISK_BYTES },
  })
  const cache = await bindNodeLlamaCpp(manager, { model, context })
  /** @type {string[]} */
  const failures = cache.enabled ? [] : [`kvtier is off: ${cache.stats().reason}`]
  cache.on('failed', ({ what, message }) => failures.push(`${what}: ${message}`))
  return { manager, cache, failures }
}

/** @param {import('kvtier').TierStats} tier @returns {number} */
function heldBytes({ slots, held, capacityBytes }) {
  return slots === 0 ? 0 : (held / slots) * capacityBytes
}

/** @param {Task} task */
async function serve(task) {
  const { LlamaChatSession } = await loadLlama()
  const llama = await openCpuEngine()
  const model = await llama.loadModel({ modelPath: task.model })
  const context = await model.createContext({
    contextSize: task.contextSize,
    sequences: 1,
    batchSize: task.batch,
    // A second thread waits for the first at every operation, which costs more than it brings where cores are busy.
    threads: 1,
    flashAttention: false,
  })
  const kvtier = task.mode === 'kvtier' ? await openKvtier(task, model, context) : null
  const sequence = context.getSequence()
  const attachment = kvtier?.cache.attach(sequence, { tenant: 'the users of this server' })
  const session = new LlamaChatSession({ contextSequence: sequence, systemPrompt: task.system })

  /** @param {Prompt} prompt */
  async function answer({ earlier, message, answerTokens }) {
    const started = performance.now()
    const meter = sequence.tokenMeter.getState()
    if (task.mode === 'reset') await sequence.clearHistory()
    session.setChatHistory([
      { type: 'system', text: task.system },
      ...earlier.flatMap((turn) => [
        { type: /** @type {const} */ ('user'), text: turn.message },
        { type: /** @type {const} */ ('model'), response: [turn.answer] },
      ]),
    ])
    let firstTokenMs = 0
    const text = await session.prompt(message, {
      temperature: 0,
      maxTokens: answerTokens,
      onToken: () => {
        firstTokenMs ||= performance.now() - started
      },
    })
    const { usedInputTokens, usedOutputTokens } = sequence.tokenMeter.diff(meter)
    const byTier = attachment?.last?.byTier ?? { host: 0, disk: 0 }
    // The engine counts a prompt's last token with the answer's first; the answer's last token is never evaluated.
    const evaluated = usedInputTokens + 1
    const prompt = sequence.nextTokenIndex - (usedOutputTokens - 1)
    tell({ type: 'answer', text, prompt, evaluated, ...byTier, firstTokenMs })
  }

  async function idle() {
    await kvtier?.cache.idle()
    const tiers = kvtier?.manager.stats().tiers
    const held = { host: tiers ? heldBytes(tiers.host) : 0, disk: tiers ? heldBytes(tiers.disk) : 0 }
    tell({ type: 'idle', held, failures: kvtier?.failures ?? [] })
  }

  process.on('message', (/** @type {import('./messages.js').Request} */ request) => {
    const work = request.type === 'prompt' ? answer(request) : idle()
    work.catch(fail)
  })
  tell({ type: 'ready', description: model.typeDescription })
}

/** @param {unknown} error */
function fail(error) {
  process.exitCode = 1
  tell({ type: 'failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error) })
}

// Whoever asked is gone.
process.once('disconnect', () => process.exit())
serve(JSON.parse(process.argv[2] ?? '{}')).catch(fail)
