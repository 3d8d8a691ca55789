/** Holds a directory open until its parent says otherwise, and says so. The first argument is the directory. */
import { openManager } from './under-load.js'

const [folder] = process.argv.slice(2)
const manager = await openManager(folder)
process.stdout.write('open\n')
for await (const _ of process.stdin) break
await manager.close()
process.stdout.write('closed\n')
