/**
 * `npm run bench`: compiles bench/ and runs bench/run.ts with the words that follow.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, tool } from './run.js'

const addon = process.env.KVTIER_ADDON ?? join(root, 'build', 'Release', 'kvtier.node')
let ok = existsSync(addon)
if (!ok) console.error('bench needs the addon: run npm run build first.')
ok &&= run(tool('tsc'), ['--project', join(root, 'bench')])
ok &&= run(process.execPath, [join(root, 'build', 'bench', 'bench', 'run.js'), ...process.argv.slice(2)], {
  KVTIER_ADDON: addon,
})
process.exitCode = ok ? 0 : 1
