/** Hashes more blocks than there is memory for their hashes, then one; prints what came of both. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { openAddon } from '../teardown/in-flight.js'

const KIB = 1024
const BLOCKS = 30_000_000
const { addon, start } = openAddon()
const codes = JSON.parse(addon.describe()).codes.map(({ name }) => name)

function hash(blocks) {
  return start((ticket) => addon.startHashTokens(ticket, new Uint8Array(32), blocks, 1, new Uint8Array(0)))
}

const tokens = new Uint32Array(BLOCKS)
const virtualBytes = Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * KIB
// Room for the copy of the tokens and for Node.js, and not for 32 bytes a token.
const limit = virtualBytes + 4 * BLOCKS + 512 * KIB * KIB
execFileSync('prlimit', ['--pid', String(process.pid), `--as=${limit}:${limit}`])
console.log(codes[(await hash(tokens)).code])
console.log(`hashed ${(await hash(tokens.subarray(0, 1))).result.length / 32} block`)
