import { describe, expect, test } from 'vitest'
import { hookMethod, type Method } from '../../../lib/connectors/node-llama-cpp/hook.ts'

class Engine {
  readonly calls: string[] = []

  work(what: string): void {
    this.calls.push(what)
  }
}

/** Hooks that note their name before they pass on. */
function hook(engine: Engine, name: string): () => void {
  return hookMethod(engine, 'work', (original) => (...given) => {
    engine.calls.push(name)
    original(...given)
  })
}

function callsOf(engine: Engine): string[] {
  engine.work('work')
  return engine.calls.splice(0)
}

describe('hooks of one method', () => {
  test('leave in any order, and nothing of them stays', () => {
    const names = ['a', 'b', 'c']
    for (const order of ['abc', 'acb', 'bac', 'bca', 'cab', 'cba']) {
      const engine = new Engine()
      const restore = new Map(names.map((name) => [name, hook(engine, name)]))
      const left = new Set(names)
      for (const name of order) {
        restore.get(name)?.()
        left.delete(name)
        expect(callsOf(engine)).toEqual([...left].reverse().concat('work'))
      }
      expect(Object.hasOwn(engine, 'work')).toBe(false)
    }
  })

  test('that come before the one before them leaves do not pile up', () => {
    const engine = new Engine()
    let restore = hook(engine, 'first')
    for (let i = 0; i < 100; i++) {
      const next = hook(engine, 'next')
      restore()
      restore = next
    }
    expect(callsOf(engine)).toEqual(['next', 'work'])
    restore()
    expect(Object.hasOwn(engine, 'work')).toBe(false)
  })

  test('give an object its own method back, whichever leaves last', () => {
    for (const isFirst of [true, false]) {
      const engine = new Engine()
      const own: Method = () => engine.calls.push('own')
      engine.work = own
      const restore = [hook(engine, 'a'), hook(engine, 'b')]
      for (const each of isFirst ? restore : restore.reverse()) each()
      expect(engine.work).toBe(own)
    }
  })

  test('pass on for ever where somebody else’s is over them', () => {
    const engine = new Engine()
    const restore = hook(engine, 'ours')
    const { work } = engine
    engine.work = (what) => work(`${what} of somebody`)
    restore()
    expect(callsOf(engine)).toEqual(['ours', 'work of somebody'])
  })
})
