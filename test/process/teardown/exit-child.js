/** Ends its process in the way of its second argument, with transfers in flight. The first is a folder for the store. */
import { startMany } from './in-flight.js'

const [folder, way] = process.argv.slice(2)
const { addon, transfers, waiting } = await startMany(folder, 2000)
if (way === 'exit') process.exit(0)
if (way === 'exit-later') {
  await transfers[500]
  process.exit(0)
}
if (way === 'throw') throw new Error('expected by the test')
if (way === 'hold') {
  addon.testing.holdIo()
  process.exit(0)
}
// Nothing else keeps the process alive: it must last until every transfer has settled, and no longer.
if (way === 'settle') {
  process.on('exit', () => {
    if (waiting.size !== 0) process.exitCode = 3
  })
}
