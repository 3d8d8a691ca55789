/** Loaded before the demo's worker: its ninth request fails, while others are on their way. */
import { BlockManager } from '../../../dist/block-manager.js'

const { sequence } = BlockManager.prototype
let requests = 0
BlockManager.prototype.sequence = function (...args) {
  if (++requests === 9) throw new Error('expected by the test, request 9')
  return sequence.apply(this, args)
}
