/** Numbers and texts as people read them. Pure functions. */

/** 1234567 → `1,234,567`. */
export function formatCount(count: number): string {
  const [whole = '', fraction] = String(count).split('.')
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ',')
  return fraction === undefined ? grouped : `${grouped}.${fraction}`
}

const BYTE_UNITS: readonly string[] = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** Bytes with a binary unit and at most one decimal: `512 B`, `1.5 KiB`, `64 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  // 1023.95 would be printed as 1024.0: the next unit is due a little before 1024.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < BYTE_UNITS.length - 1) {
    value /= 1024
    ++unit
  }
  return `${trimmed(value)} ${BYTE_UNITS[unit] ?? ''}`
}

/** Bytes a second with a decimal unit: `3.2 GB/s`. */
export function formatRate(bytesPerSecond: number): string {
  if (bytesPerSecond >= 1e9) return `${trimmed(bytesPerSecond / 1e9)} GB/s`
  if (bytesPerSecond >= 1e6) return `${trimmed(bytesPerSecond / 1e6)} MB/s`
  return `${trimmed(bytesPerSecond / 1e3)} kB/s`
}

/** Milliseconds as `0.42 ms`, `12 ms`, `3.4 s`, `2 min 5 s` or `3 h 20 min`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 10) return `${Number(milliseconds.toFixed(2))} ms`
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`
  const seconds = milliseconds / 1000
  if (seconds < 59.95) return `${trimmed(seconds)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A percentage with two decimals: `36.64 %`. */
export function formatPercent(percent: number): string {
  return `${percent.toFixed(2)} %`
}

/** Unix seconds as UTC to the second; `-` for 0, which means unknown. */
export function formatTime(unixSeconds: number): string {
  if (unixSeconds === 0) return '-'
  return `${new Date(unixSeconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}Z`
}

/** `1 block`, `2 blocks`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`
}

/** Text from elsewhere, safe for a terminal: control characters become `?`, so that a file name cannot move the cursor. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, '?')
}

/** At most one decimal, none when it is 0. */
function trimmed(value: number): string {
  return String(Number(value.toFixed(1)))
}
