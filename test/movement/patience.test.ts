import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { whileItGoesOn } from '../../lib/movement/patience.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const late = (): Error => new Error('late')

describe('waiting for work while it goes on', () => {
  test('gives what the work gives, and leaves no timer', async () => {
    expect(await whileItGoesOn(Promise.resolve(5), 100, () => 0, late)).toBe(5)
    await expect(whileItGoesOn(Promise.reject(new Error('own')), 100, () => 0, late)).rejects.toThrow('own')
    expect(vi.getTimerCount()).toBe(0)
  })

  test('goes on as long as there is progress, and ends when there was none', async () => {
    let parts = 0
    let end = ''
    const waiting = whileItGoesOn(new Promise(() => undefined), 100, () => parts, late).catch((error: Error) => {
      end = error.message
    })
    for (let i = 0; i < 5; i++) {
      parts++
      await vi.advanceTimersByTimeAsync(100)
      expect(end).toBe('')
    }
    await vi.advanceTimersByTimeAsync(99)
    expect(end).toBe('')
    await vi.advanceTimersByTimeAsync(1)
    await waiting
    expect(end).toBe('late')
    expect(vi.getTimerCount()).toBe(0)
  })

  test('does not mind work that fails after it was given up', async () => {
    let fail: (error: Error) => void = () => undefined
    const work = new Promise<void>((_, reject) => {
      fail = reject
    })
    const waiting = expect(whileItGoesOn(work, 100, () => 0, late)).rejects.toThrow('late')
    await vi.advanceTimersByTimeAsync(100)
    await waiting
    fail(new Error('nobody is told'))
    await vi.advanceTimersByTimeAsync(0)
  })

  test('takes any patience that a deadline can have', async () => {
    const waiting = expect(whileItGoesOn(new Promise(() => undefined), 2 ** 31 + 5000, () => 0, late)).rejects.toThrow()
    await vi.advanceTimersByTimeAsync(1000)
    expect(vi.getTimerCount()).toBe(1)
    await vi.advanceTimersByTimeAsync(2 ** 31)
    await waiting
  })
})
