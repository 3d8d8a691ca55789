/** The files of a disk tier, looked at and damaged from outside. */
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** A file of the only store below a directory. */
export function storeFile(directory: string, name: string): string {
  const [store] = readdirSync(join(directory, 'v1')).filter((each) => /^[0-9a-f]{32}$/.test(each))
  if (store === undefined) throw new Error(`${directory} holds no store`)
  return join(directory, 'v1', store, name)
}

/** Where a block's bytes lie in a slab; slots begin at multiples of `stride`. */
export function findInSlab(file: string, bytes: Uint8Array, stride: number): number {
  const slab = readFileSync(file)
  for (let at = 0; at + bytes.length <= slab.length; at += stride) {
    if (slab.subarray(at, at + bytes.length).equals(bytes)) return at
  }
  throw new Error(`${file} does not hold the block`)
}

/** Flips one bit of a file. */
export function flipBit(file: string, offset: number): void {
  const descriptor = openSync(file, 'r+')
  try {
    const byte = Buffer.alloc(1)
    readSync(descriptor, byte, 0, 1, offset)
    byte[0] = (byte[0] ?? 0) ^ 0x10
    writeSync(descriptor, byte, 0, 1, offset)
  } finally {
    closeSync(descriptor)
  }
}
