/**
 * A plain model of a layer group's accounting: objects and loops, every block's own last use and use count, the victim
 * found by looking at all blocks. Slow and obvious; what lib/blocks does must be the same.
 */

/** One copy of a block in a tier. */
export interface ModelCopy {
  slot: number
  published: boolean
  leaving: boolean
  pins: number
  lastUse: number
  uses: number
  cameAt: number
}

/** One block, live or lost. */
export interface ModelBlock {
  readonly id: number
  entry: number
  parent: ModelBlock | null
  readonly depth: number
  readonly tenant: number
  priority: number
  expiresAtS: number
  lost: boolean
  readonly copies: Map<number, ModelCopy>
}

/** Ranks by policy name; smaller leaves first. */
const RANKS: Readonly<Record<string, (copy: ModelCopy) => number>> = {
  lru: (copy) => copy.lastUse,
  lfu: (copy) => copy.uses,
  fifo: (copy) => copy.cameAt,
}

/** Whether the model knows how a policy ranks. */
export function isModelled(policy: string): boolean {
  return policy in RANKS
}

/** See the file's first lines. */
export class GroupModel {
  readonly live = new Map<number, ModelBlock>()
  /** Lost blocks that still have slots. */
  readonly lost = new Set<ModelBlock>()
  /** By `tenant/tier`. */
  readonly quotas = new Map<string, number>()
  tick = 0
  nowS = 0
  readonly #slotCounts: readonly number[]
  readonly #rank: (copy: ModelCopy) => number
  readonly #closed: boolean

  constructor(slotCounts: readonly number[], policy: string, closed: boolean) {
    this.#slotCounts = slotCounts
    this.#rank = RANKS[policy] ?? (() => 0)
    this.#closed = closed
  }

  get tiers(): number[] {
    return [...this.#slotCounts.keys()].filter((tier) => this.#slotCounts[tier] !== 0)
  }

  all(): ModelBlock[] {
    return [...this.live.values(), ...this.lost]
  }

  isHeld(block: ModelBlock): boolean {
    return !block.lost && [...block.copies.values()].some((copy) => copy.published)
  }

  isExpired(block: ModelBlock): boolean {
    return block.expiresAtS !== 0 && block.expiresAtS <= this.nowS
  }

  children(block: ModelBlock): ModelBlock[] {
    return [...this.live.values()].filter((other) => other.parent === block)
  }

  ranked(block: ModelBlock | null, tier: number): ModelCopy | null {
    const copy = block === null || block.lost ? undefined : block.copies.get(tier)
    return copy?.published && !copy.leaving ? copy : null
  }

  counts(tier: number): {
    slots: number
    free: number
    filling: number
    pinned: number
    evictable: number
    held: number
  } {
    const copies = this.all().flatMap((block) => block.copies.get(tier) ?? [])
    const filling = copies.filter((copy) => !copy.published).length
    const pinned = copies.filter((copy) => copy.pins > 0).length
    const slots = this.#slotCounts[tier] ?? 0
    const evictable = copies.length - filling - pinned
    const held = [...this.live.values()].filter((block) => block.copies.get(tier)?.published).length
    return { slots, free: slots - copies.length, filling, pinned, evictable, held }
  }

  usedBy(tenant: number, tier: number): number {
    return this.all().filter((block) => block.tenant === tenant && block.copies.has(tier)).length
  }

  begin(block: ModelBlock): void {
    this.live.set(block.id, block)
  }

  extend(block: ModelBlock, priority: number, expiresAtS: number): void {
    block.priority = Math.max(block.priority, priority)
    const forever = block.expiresAtS === 0 || expiresAtS === 0
    block.expiresAtS = forever ? 0 : Math.max(block.expiresAtS, expiresAtS)
  }

  assign(block: ModelBlock, tier: number, slot: number): void {
    block.copies.set(tier, { slot, published: false, leaving: false, pins: 0, lastUse: 0, uses: 0, cameAt: 0 })
  }

  canPublish(block: ModelBlock): boolean {
    return !block.lost && (block.parent === null || this.isHeld(block.parent))
  }

  publish(block: ModelBlock, tier: number, pins: number, lastUse: number = this.tick, cameAt: number = lastUse): void {
    const copy = block.copies.get(tier)!
    Object.assign(copy, { published: true, pins, lastUse, cameAt })
    this.#used(block, tier)
  }

  giveUpFilling(block: ModelBlock, tier: number): void {
    block.copies.delete(tier)
    this.removeIfEmpty(block)
  }

  removeIfEmpty(block: ModelBlock): void {
    if (block.copies.size > 0) return
    if (block.lost) this.lost.delete(block)
    else this.drop(block)
  }

  unpin(block: ModelBlock, tier: number): void {
    const copy = block.copies.get(tier)!
    copy.pins--
    if (block.lost && copy.pins === 0 && !copy.leaving) this.giveUpFilling(block, tier)
  }

  /** Every block of the path is touched itself. */
  touch(path: readonly ModelBlock[], tick: number): void {
    this.tick = tick
    for (const block of path) {
      if (block.lost) continue
      for (const copy of block.copies.values()) {
        if (!copy.published) continue
        copy.lastUse = tick
        copy.uses++
      }
    }
  }

  /** The block that must be the next victim; null when there is none. */
  victim(tier: number, tenant: number | null, toMove: boolean): ModelBlock | null {
    const mine = [...this.live.values()].filter((block) => tenant === null || block.tenant === tenant)
    const leaves = mine.filter((block) => this.#isLeaf(block, tier))
    const ready = leaves.filter((block) => !this.#isNeeded(block, tier))
    const slotOf = (block: ModelBlock): number => block.copies.get(tier)!.slot
    const soonest = ready
      .filter((block) => this.isExpired(block))
      .sort((a, b) => a.expiresAtS - b.expiresAtS || b.depth - a.depth || slotOf(b) - slotOf(a))
    if (soonest[0] !== undefined) return soonest[0]
    const order = (toMove ? leaves : ready).sort((a, b) => this.#compare(a, b, tier))
    return order[0] ?? null
  }

  startLeaving(block: ModelBlock, tier: number): void {
    block.copies.get(tier)!.leaving = true
  }

  /** Whether it leaves; where not, it stays. */
  evict(block: ModelBlock, tier: number): boolean {
    const copy = block.copies.get(tier)!
    const children = this.children(block)
    const needed = [...block.copies.values()].filter((other) => other.published).length === 1 && children.length > 0
    const hasChildHere = children.some((child) => this.ranked(child, tier) !== null)
    if (block.lost || copy.pins > 0 || needed || hasChildHere) {
      this.stay(block, tier)
      return block.lost
    }
    this.giveUpFilling(block, tier)
    return true
  }

  stay(block: ModelBlock, tier: number): void {
    const copy = block.copies.get(tier)!
    copy.leaving = false
    if (!block.lost) this.#used(block, tier)
    else if (copy.pins === 0) this.giveUpFilling(block, tier)
  }

  /** How many blocks were held and are not now. */
  drop(block: ModelBlock): number {
    let lost = this.isHeld(block) ? 1 : 0
    for (const child of this.children(block)) lost += this.drop(child)
    block.lost = true
    block.parent = null
    this.live.delete(block.id)
    for (const [tier, copy] of block.copies)
      if (copy.published && !copy.leaving && copy.pins === 0) block.copies.delete(tier)
    if (block.copies.size > 0) this.lost.add(block)
    return lost
  }

  sweep(nowS: number, limit: number): number {
    this.nowS = Math.max(this.nowS, nowS)
    let lost = 0
    for (let i = 0; i < limit; i++) {
      const expired = [...this.live.values()].filter((block) => block.expiresAtS !== 0 && block.expiresAtS <= nowS)
      expired.sort((a, b) => a.expiresAtS - b.expiresAtS || a.depth - b.depth || a.entry - b.entry)
      if (expired[0] === undefined) break
      lost += this.drop(expired[0])
    }
    return lost
  }

  /** A use of a block is one of every block before it, as far as they are in the tier. */
  #used(block: ModelBlock, tier: number): void {
    if (!this.#closed) return
    const copy = this.ranked(block, tier)!
    for (const child of this.children(block))
      copy.lastUse = Math.max(copy.lastUse, this.ranked(child, tier)?.lastUse ?? -Infinity)
    let below = copy
    for (
      let at = block.parent, next = this.ranked(at, tier);
      at !== null && next !== null;
      next = this.ranked(at, tier)
    ) {
      next.lastUse = Math.max(next.lastUse, below.lastUse)
      below = next
      at = at.parent
    }
  }

  #isLeaf(block: ModelBlock, tier: number): boolean {
    const copy = this.ranked(block, tier)
    if (copy === null || copy.pins > 0) return false
    return !this.#closed || this.children(block).every((child) => this.ranked(child, tier) === null)
  }

  /** Whether blocks behind it would be left without it. */
  #isNeeded(block: ModelBlock, tier: number): boolean {
    if (!this.#closed || this.children(block).length === 0) return false
    return this.tiers.every((other) => other === tier || block.copies.get(other)?.published !== true)
  }

  #compare(a: ModelBlock, b: ModelBlock, tier: number): number {
    const ranks = this.#rank(a.copies.get(tier)!) - this.#rank(b.copies.get(tier)!)
    return a.priority - b.priority || ranks || this.#tie(a, b, tier)
  }

  #tie(a: ModelBlock, b: ModelBlock, tier: number): number {
    const left = a.copies.get(tier)!
    const right = b.copies.get(tier)!
    return left.lastUse - right.lastUse || b.depth - a.depth || right.slot - left.slot
  }
}
