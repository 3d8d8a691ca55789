/** Two managers in one process, under load beside each other; one closes while the other works on. */
import { join } from 'node:path'
import { openManager, serve, startMany } from './under-load.js'

const [folder] = process.argv.slice(2)
const one = await openManager(join(folder, 'one'), { engine: { threads: 2 } })
const two = await openManager(join(folder, 'two'), { engine: { threads: 8 } })
const transfers = (await Promise.all([startMany(one, 40), startMany(two, 40)])).flat()
await one.close({ deadlineMs: 0 })
let wrong = 0
for (let number = 1; number <= 20; number++) wrong += await serve(two, number)
await Promise.all(transfers.map((each) => each.settled))
const again = await openManager(join(folder, 'one'))
for (let number = 1; number <= 8; number++) wrong += await serve(again, number)
await Promise.all([two.close(), again.close()])
console.log(`wrong ${wrong}`)
