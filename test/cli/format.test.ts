import { describe, expect, it } from 'vitest'

import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  formatRate,
  formatTime,
  plural,
  printable,
} from '../../lib/cli/format.js'

describe('format', () => {
  it.each([
    [0, '0'],
    [999, '999'],
    [1000, '1,000'],
    [1234567, '1,234,567'],
    [1234.5678, '1,234.5678'],
  ])('counts %d as %s', (count, text) => expect(formatCount(count)).toBe(text))

  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1024 * 1024 - 1, '1 MiB'],
    [64 * 1024 ** 3, '64 GiB'],
    [2 ** 60, '1024 PiB'],
  ])('writes %d bytes as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

  it.each([
    [3.21e9, '3.2 GB/s'],
    [12e6, '12 MB/s'],
    [500, '0.5 kB/s'],
  ])('writes %d bytes a second as %s', (rate, text) => expect(formatRate(rate)).toBe(text))

  it.each([
    [0, '0 ms'],
    [0.4242, '0.42 ms'],
    [12.4, '12 ms'],
    [999.6, '1 s'],
    [3400, '3.4 s'],
    [59_940, '59.9 s'],
    [59_970, '1 min 0 s'],
    [125_000, '2 min 5 s'],
    [12_000_000, '3 h 20 min'],
  ])('writes %d ms as %s', (milliseconds, text) => expect(formatDuration(milliseconds)).toBe(text))

  it('writes percentages with two decimals, times in UTC, and 0 as unknown', () => {
    expect(formatPercent(36.6412)).toBe('36.64 %')
    expect(formatTime(0)).toBe('-')
    expect(formatTime(1_700_000_000)).toBe('2023-11-14 22:13:20Z')
    expect(formatTime(0xffffffff)).toBe('2106-02-07 06:28:15Z')
  })

  it('says one block and two blocks', () => {
    expect([plural(0, 'block'), plural(1, 'block'), plural(2000, 'block')]).toEqual([
      '0 blocks',
      '1 block',
      '2,000 blocks',
    ])
  })

  it('takes control characters out of names', () => {
    expect(printable('a\u001b[2Jb\nc\u009b')).toBe('a?[2Jb?c?')
    expect(printable('naïve – 日本')).toBe('naïve – 日本')
  })
})
