import { describe, expect, it } from 'vitest'

import { BlockRegistry } from '../../lib/blocks/block-registry.js'
import { errorOf } from '../support/expect-code.js'

const hashes = Uint32Array.from({ length: 64 * 8 }, (_, word) => word)

function make(registry: BlockRegistry, index: number, parent: number, expiresAtS = 0): number {
  const entry = registry.create(hashes, index)
  registry.describe(entry, parent, 0, parent < 0 ? 0 : registry.depthOf(parent) + 1, 0, expiresAtS)
  return entry
}

function childrenOf(registry: BlockRegistry, entry: number): number[] {
  const children: number[] = []
  for (let child = registry.firstChildOf(entry); child >= 0; child = registry.nextSiblingOf(child)) children.push(child)
  return children.sort((a, b) => a - b)
}

describe('the registry', () => {
  it('links blocks to their parents and unlinks the lost ones wherever they are among their siblings', () => {
    for (const lost of [1, 2, 3]) {
      const registry = new BlockRegistry(8)
      const root = make(registry, 0, -1)
      const children = [1, 2, 3].map((index) => make(registry, index, root))
      expect(childrenOf(registry, root)).toEqual(children)
      registry.lose(children[lost - 1]!)
      expect(childrenOf(registry, root)).toEqual(children.filter((child) => child !== children[lost - 1]))
      expect(registry.childCountOf(root)).toBe(2)
    }
  })

  it('does not find a lost block, and makes a new entry for its hash', () => {
    const registry = new BlockRegistry(8)
    const before = make(registry, 5, -1)
    registry.lose(before)
    expect(registry.find(hashes, 5)).toBe(-1)
    expect(make(registry, 5, -1)).not.toBe(before)
    expect(registry.isLost(before)).toBe(true)
    registry.release(before)
    expect([registry.count, registry.liveCount]).toEqual([1, 1])
  })

  it('names the block that expires first, of equal ones the first of its sequence', () => {
    const registry = new BlockRegistry(8)
    const late = make(registry, 0, -1, 50)
    const root = make(registry, 1, -1, 20)
    const child = make(registry, 2, root, 20)
    expect(registry.firstExpired(19)).toBe(-1)
    expect(registry.firstExpired(20)).toBe(root)
    registry.setExpiry(root, 0)
    expect(registry.firstExpired(20)).toBe(child)
    registry.lose(child)
    expect(registry.firstExpired(50)).toBe(late)
  })

  it('gives the entries of a sequence consecutive numbers', () => {
    const registry = new BlockRegistry(64)
    let parent = -1
    const entries = Array.from({ length: 20 }, (_, index) => {
      parent = make(registry, index, parent)
      return parent
    })
    expect(entries).toEqual(Array.from({ length: 20 }, (_, entry) => entry))
  })

  it('refuses a block more than it has entries, to lose a parent, and to release what is not lost', () => {
    const registry = new BlockRegistry(2)
    const root = make(registry, 0, -1)
    make(registry, 1, root)
    expect(errorOf('ERR_KV_INTERNAL', () => make(registry, 2, -1)).message).toContain('all 2 are in use')
    expect(errorOf('ERR_KV_INTERNAL', () => registry.lose(root)).message).toContain('1 children')
    expect(errorOf('ERR_KV_INTERNAL', () => registry.release(root)).message).toContain('not lost')
  })

  it('leaves nothing of a block to the next one that gets its entry', () => {
    const registry = new BlockRegistry(1)
    const entry = registry.create(hashes, 0)
    registry.describe(entry, -1, 3, 0, 9, 77)
    registry.pending[entry] = 12
    registry.lose(entry)
    registry.release(entry)
    expect(make(registry, 1, -1)).toBe(entry)
    expect([registry.tenantOf(entry), registry.priorityOf(entry), registry.expiryOf(entry)]).toEqual([0, 0, 0])
    expect([registry.pending[entry], registry.copies[entry], registry.childCountOf(entry)]).toEqual([0, 0, 0])
  })
})
