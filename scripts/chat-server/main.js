/**
 * `npm run example:chat-server`: a chat endpoint with node-llama-cpp and kvtier behind it, in the shapes of OpenAI's API:
 * POST /v1/chat/completions (stream or not), GET /v1/models, GET /healthz, GET /stats. What a user's conversation has in
 * common with an earlier prompt of the same user is loaded instead of computed; response headers say how much came from
 * where. SIGTERM and SIGINT end it: answers under way are finished, what is new is written to disk.
 *
 * --model PATH       a GGUF file (default: a made model with random weights, whose answers are noise)
 * --address ADDRESS  where it listens (default: 127.0.0.1); there is no access control
 * --port N           0: any that is free (default: 8080)
 * --sequences N      requests that are answered at a time (default: 2)
 * --context N        tokens of each (default: 4096)
 * --threads N        that compute (default: the engine's choice)
 * --directory PATH   the disk tier (default: kvtier-chat-server in the folder for temporary files)
 * --host MIB         host memory for blocks (default: 256)
 * --disk MIB         disk for blocks (default: 1024)
 * --share            all users share blocks: whoever can time requests can tell what others have asked
 * --waiting N        requests that may wait, users taking turns (default: 64)
 * --grace SECONDS    what answers under way have at the end (default: 10)
 * --help             prints these lines
 *
 * Ends with 0; with 1 when something failed; 2 for a wrong command line; 3 where this machine cannot have node-llama-cpp.
 */
import { basename } from 'node:path'
import { PrepareError, prepare } from '../chat-demo/prepare.js'
import { helpText, readOptions, UsageError } from './options.js'

/** @param {import('./options.js').Options} options */
async function main(options) {
  const modelPath = prepare(options.model)
  // Only now are these there in a fresh clone.
  const { ChatEngine } = await import('./chat-engine.js')
  const { createApp } = await import('./app.js')

  const engine = await ChatEngine.open({
    modelPath,
    sequences: options.sequences,
    contextSize: options.context,
    directory: options.directory,
    host: options.host,
    disk: options.disk,
    share: options.share,
    mostWaiting: options.waiting,
    ...(options.threads === null ? {} : { threads: options.threads }),
  })
  const model = basename(modelPath, '.gguf')
  const app = await createApp(engine, { model })
  const { cache, manager } = engine.stats()
  if (!cache.enabled) console.error(`kvtier is off, every prompt is computed: ${cache.reason}`)

  let isEnding = false
  const end = async () => {
    if (isEnding) return
    isEnding = true
    console.error('ending ...')
    // Answers under way are finished before the app lets go of their connections.
    const engineClosed = engine.close(options.graceMs)
    await app.close()
    await engineClosed
    console.error('ended')
  }
  const ended = () => end().catch(fail)
  process.on('SIGTERM', ended)
  process.on('SIGINT', ended)
  try {
    const url = await app.listen({ host: options.address, port: options.port })
    console.log(`${model} at ${url}/v1/chat/completions; ${manager.counters.recovered} blocks found on disk`)
  } catch (error) {
    await end()
    throw error
  }
}

/** @param {unknown} error */
function fail(error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : error instanceof PrepareError ? error.exitCode : 1
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options.help) console.log(helpText())
  else await main(options)
} catch (error) {
  fail(error)
}
