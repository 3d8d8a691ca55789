/**
 * The demo's workload: users of a few tenants whose chats grow turn by turn behind shared system prompts. Everything
 * comes from a seed, so that a process which is killed can be followed by one that goes on.
 */

/** How large the workload is. */
export interface WorkloadShape {
  readonly seed: number
  readonly users: number
  readonly turns: number
  readonly tenants: number
  /** System prompts a tenant has; each user talks behind one of them. */
  readonly systemPrompts: number
  readonly systemTokens: number
  /** Tokens of a question and of an answer, at least and at most. */
  readonly turnTokens: readonly [number, number]
}

/** One request: a user's next turn. */
export interface WorkloadRequest {
  readonly user: number
  readonly tenant: string
  readonly tokens: Uint32Array
}

/** A small seeded generator (xorshift32): the same numbers on every machine. */
export class SeededRandom {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0 || 0x9e3779b9
  }

  /** The next 32 bits. */
  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state
  }

  /** An integer from `least` to `most`. */
  between(least: number, most: number): number {
    return least + (this.next() % (most - least + 1))
  }
}

function fill(tokens: number[], count: number, seed: number): void {
  const random = new SeededRandom(seed)
  for (let i = 0; i < count; i++) tokens.push(random.next() % 32_000)
}

/** The requests in order: every user's first turn, then every user's second, in a seeded order each round. */
export function* workload(shape: WorkloadShape): Generator<WorkloadRequest> {
  const chats: number[][] = []
  for (let user = 0; user < shape.users; user++) {
    const tenant = user % shape.tenants
    const prompt = Math.floor(user / shape.tenants) % shape.systemPrompts
    const tokens: number[] = []
    fill(tokens, shape.systemTokens, shape.seed * 31 + tenant * 7 + prompt + 1)
    chats.push(tokens)
  }
  const order = new SeededRandom(shape.seed)
  for (let turn = 0; turn < shape.turns; turn++) {
    const users = Array.from({ length: shape.users }, (_, user) => user)
    for (let i = users.length - 1; i > 0; i--) {
      const j = order.between(0, i)
      const swapped = users[i] ?? 0
      users[i] = users[j] ?? 0
      users[j] = swapped
    }
    for (const user of users) {
      const chat = chats[user] ?? []
      const [least, most] = shape.turnTokens
      fill(chat, order.between(least, most), shape.seed * 1009 + user * 131 + turn)
      yield { user, tenant: `tenant-${user % shape.tenants}`, tokens: Uint32Array.from(chat) }
      // The answer's KV is computed while it is generated; the next turn's prompt contains it.
      fill(chat, order.between(least, most), shape.seed * 2003 + user * 137 + turn)
    }
  }
}
