/**
 * Takes over the blocks that a disk tier's table held when it was opened, in slices, so that the event loop runs in
 * between. Rows come parents first, best a sequence after the other: its entries will follow each other.
 */
import type { SlabContents } from '../native/binding.js'
import { HASH_BYTES } from '../native/sizes.js'
import type { GroupState } from './group-state.js'
import { misuse } from './misuse.js'
import type { TierBlocks } from './tier-blocks.js'

const GROUP = 64

/** What became of a row. */
const LEFT_OUT = 0
/** The block was known and was not in the tier. */
const FOUND = 1
const CREATED = 2

/** Later than every last use of a record, which are Unix seconds: adopted blocks are older than any live tick. */
const SECONDS_END = 2 ** 32

/** One table on its way into a tier. */
export class Adoption {
  readonly #state: GroupState
  readonly #tier: TierBlocks
  readonly #contents: SlabContents
  readonly #hashes: Uint32Array
  /** Entry of each row so far plus one; 0 = left out. */
  readonly #entries: Int32Array
  /** Whether each row is the parent of another. */
  readonly #isParent: Uint8Array
  readonly #steps = new Uint8Array(GROUP)
  readonly #lossesBefore: number
  #next = 0

  constructor(state: GroupState, contents: SlabContents, tier: TierBlocks) {
    this.#state = state
    this.#tier = tier
    this.#contents = contents
    this.#hashes = wordsOf(contents.hashes)
    this.#entries = new Int32Array(contents.slots.length)
    this.#isParent = new Uint8Array(contents.slots.length)
    if (state.prefixClosed) markParents(contents.parents, this.#isParent)
    this.#lossesBefore = state.registry.losses
  }

  /** Whether the whole table was seen. */
  get done(): boolean {
    return this.#next === this.#entries.length
  }

  /** Whether a slice of this table, into this tier, comes next. */
  continues(contents: SlabContents, from: number, tier: number): boolean {
    return contents === this.#contents && from === this.#next && tier === this.#tier.number
  }

  /** Adopts the rows before `to`; how many became blocks. */
  adopt(to: number): number {
    if (to < this.#next || to > this.#entries.length) {
      misuse(
        `Rows up to ${to} were to be adopted; the table has ${this.#entries.length}, of which ${this.#next} are done.`,
      )
    }
    let adopted = 0
    for (let from = this.#next; from < to; from += GROUP) adopted += this.#adoptGroup(from, Math.min(from + GROUP, to))
    for (let row = this.#next; row < to; row++) {
      // A block with a child that is still to come is not placed in the queue, for that would take it out again.
      if (this.#isParent[row] === 0 && this.#entries[row] !== 0) this.#tier.refresh(this.#entries[row]! - 1)
    }
    this.#next = to
    return adopted
  }

  /** A few rows in passes that each touch few arrays, so that their cache misses overlap. */
  #adoptGroup(from: number, to: number): number {
    this.#state.registry.prefetch(this.#hashes, from, to)
    this.#enterAll(from, to)
    this.#describeAll(from, to)
    return this.#rankAll(from, to)
  }

  /** Finds or makes the rows' entries and takes their slots. */
  #enterAll(from: number, to: number): void {
    for (let row = from; row < to; row++) this.#steps[row - from] = this.#enter(row)
  }

  #enter(row: number): number {
    const { registry, prefixClosed } = this.#state
    const tier = this.#tier
    if (prefixClosed && this.#contents.parents[row]! >= 0 && this.#parentEntry(row) < 0) return LEFT_OUT
    const slot = this.#contents.slots[row]!
    const isFree = tier.pool.isFree(slot)
    let entry = registry.find(this.#hashes, row)
    const found = entry >= 0
    if (!isFree || (found ? tier.slotOf(entry) >= 0 : registry.count === registry.capacity)) {
      if (found && registry.copies[entry]! > 0) this.#entries[row] = entry + 1
      return LEFT_OUT
    }
    if (!found) entry = registry.create(this.#hashes, row)
    this.#entries[row] = entry + 1
    tier.adopt(entry, slot, this.#contents.lastUsesS[row]! - SECONDS_END)
    registry.copies[entry]!++
    return found ? FOUND : CREATED
  }

  /** Says of the new entries what they are. */
  #describeAll(from: number, to: number): void {
    const { parents, depths, priorities, expiresAtS, tenantTags } = this.#contents
    const { registry, tenants, prefixClosed } = this.#state
    for (let row = from; row < to; row++) {
      if (this.#steps[row - from] !== CREATED) continue
      const parentRow = prefixClosed ? parents[row]! : -1
      const parent = parentRow < 0 ? -1 : this.#entries[parentRow]! - 1
      const tenant = tenants.numberOf(tenantTags[row]!)
      tenants.join(tenant, 1)
      registry.describe(this.#entries[row]! - 1, parent, tenant, depths[row]!, priorities[row]!, expiresAtS[row]!)
    }
  }

  /** Gives the blocks their places in the order of eviction; how many there are. */
  #rankAll(from: number, to: number): number {
    const { registry, tenants } = this.#state
    const tier = this.#tier
    let adopted = 0
    for (let row = from; row < to; row++) {
      const step = this.#steps[row - from]
      if (step === LEFT_OUT) {
        this.#leaveOut(row)
        continue
      }
      adopted++
      const entry = this.#entries[row]! - 1
      tenants.addUse(registry.tenantOf(entry), tier.number, 1)
      const isHole = tier.rank(entry, this.#contents.slots[row]!)
      if (step === FOUND) this.#state.refresh(entry)
      if (isHole) this.#state.refresh(registry.parentOf(entry))
    }
    return adopted
  }

  /** The block before may have waited for this one in vain. */
  #leaveOut(row: number): void {
    if (!this.#state.prefixClosed || this.#contents.parents[row]! < 0) return
    const parent = this.#parentEntry(row)
    if (parent >= 0) this.#tier.refresh(parent)
  }

  /** The entry of the block before a row's; -1 when it was left out, or is not held any more. */
  #parentEntry(row: number): number {
    const { registry } = this.#state
    const parentRow = this.#contents.parents[row]!
    const entry = this.#entries[parentRow]! - 1
    if (entry < 0) return -1
    // Since an earlier slice the parent may be gone, and its number another block's.
    const sure = parentRow >= this.#next || registry.losses === this.#lossesBefore
    return sure || (registry.find(this.#hashes, parentRow) === entry && registry.copies[entry]! > 0) ? entry : -1
  }
}

function markParents(parents: Int32Array, marks: Uint8Array): void {
  for (let row = 0; row < parents.length; row++) if (parents[row]! >= 0) marks[parents[row]!] = 1
}

/** The hashes as words, without a copy where the array is aligned. */
function wordsOf(hashes: Uint8Array): Uint32Array {
  if (hashes.length % HASH_BYTES !== 0)
    misuse(`A table's hashes are ${hashes.length} bytes, no multiple of ${HASH_BYTES}.`)
  const aligned = hashes.byteOffset % Uint32Array.BYTES_PER_ELEMENT === 0 ? hashes : hashes.slice()
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / Uint32Array.BYTES_PER_ELEMENT)
}
