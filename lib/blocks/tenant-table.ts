/**
 * Tenants: small numbers for the 32-bit tags that records carry, how many slots each one has in each tier, and quotas.
 * A tenant with no block and no quota is forgotten, so the table does not grow with the number ever seen.
 */

interface Tenant {
  tag: number
  /** Entries of the registry, lost ones included while they still have a slot. */
  entries: number
  readonly used: number[]
  readonly quotas: number[]
  /** Partition of each tier's queue; 0 = the common one. */
  readonly partitions: number[]
}

/** Tenants by their tag, for up to `tierCount` tiers. */
export class TenantTable {
  readonly #tierCount: number
  readonly #numbers = new Map<number, number>()
  readonly #tenants: (Tenant | null)[] = []
  /** Numbers below the table's length that no tenant has. */
  readonly #free: number[] = []
  #lastTag = -1
  #lastNumber = -1

  constructor(tierCount: number) {
    this.#tierCount = tierCount
  }

  /** Tenants known now. */
  get size(): number {
    return this.#numbers.size
  }

  /** The number of a tag; a new one for a new tag. */
  numberOf(tag: number): number {
    if (tag === this.#lastTag) return this.#lastNumber
    let number = this.#numbers.get(tag)
    if (number === undefined) {
      number = this.#free.pop() ?? this.#tenants.length
      this.#tenants[number] = this.#make(tag)
      this.#numbers.set(tag, number)
    }
    this.#lastTag = tag
    this.#lastNumber = number
    return number
  }

  /** The number of a tag that is known; -1 for others. */
  find(tag: number): number {
    return this.#numbers.get(tag) ?? -1
  }

  tagOf(number: number): number {
    return this.#of(number).tag
  }

  /** So many entries more. */
  join(number: number, entries: number): void {
    this.#of(number).entries += entries
  }

  /** An entry less. */
  leave(number: number): void {
    this.#of(number).entries--
    this.forgetIfUnused(number)
  }

  usedBy(number: number, tier: number): number {
    return this.#of(number).used[tier]!
  }

  /** A tenant's slots in a tier became more or fewer. */
  addUse(number: number, tier: number, slots: number): void {
    this.#of(number).used[tier]! += slots
  }

  /** Infinity where there is none. */
  quotaOf(number: number, tier: number): number {
    return this.#of(number).quotas[tier]!
  }

  partitionOf(number: number, tier: number): number {
    return this.#of(number).partitions[tier]!
  }

  setQuota(number: number, tier: number, slots: number, partition: number): void {
    const tenant = this.#of(number)
    tenant.quotas[tier] = slots
    tenant.partitions[tier] = partition
  }

  /** Ends a tenant that has neither blocks nor a quota. */
  forgetIfUnused(number: number): void {
    const tenant = this.#of(number)
    if (tenant.entries > 0 || tenant.quotas.some((quota) => quota !== Number.POSITIVE_INFINITY)) return
    this.#numbers.delete(tenant.tag)
    this.#tenants[number] = null
    this.#free.push(number)
    this.#lastTag = -1
  }

  #of(number: number): Tenant {
    return this.#tenants[number]!
  }

  #make(tag: number): Tenant {
    const perTier = (value: number): number[] => new Array<number>(this.#tierCount).fill(value)
    return { tag, entries: 0, used: perTier(0), quotas: perTier(Number.POSITIVE_INFINITY), partitions: perTier(0) }
  }
}
