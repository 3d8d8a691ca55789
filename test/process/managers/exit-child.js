/** Ends its process in the way of its second argument, with a manager open. The first is a folder for the store. */
import { openManager, sequenceOf, serve, startMany } from './under-load.js'

const [folder, way] = process.argv.slice(2)
const manager = await openManager(folder)
if (way === 'idle') {
  // Nothing is pending: an open manager does not keep its process alive.
  console.log(`wrong ${await serve(manager, 1)}`)
} else if (way === 'held') {
  // Neither do a reservation, a reading and a pin.
  await serve(manager, 1)
  const reservation = await manager.host.reserve(sequenceOf(manager, 2))
  reservation.window(0).fill(1)
  const reading = await manager.host.load(sequenceOf(manager, 1))
  console.log(`read ${reading.window(0).length} bytes`)
  manager.device.reserve(4)
} else if (way === 'in flight') {
  const transfers = await startMany(manager, 60)
  let settled = 0
  for (const each of transfers) void each.settled.then(() => settled++)
  process.on('exit', () => console.log(settled === transfers.length ? 'all settled' : `${settled} settled`))
} else {
  const transfers = await startMany(manager, 60)
  if (way === 'throw') throw new Error('expected by the test')
  if (way === 'exit later') await transfers[30].done
  if (way === 'closing') void manager.close({ deadlineMs: 0 })
  process.exit(0)
}
