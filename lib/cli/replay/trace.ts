/**
 * Reads request traces: JSON lines, plain, gzip or zstd, one request a line with the ids of its prompt's blocks. Ids are
 * chained: equal id behind equal ids means equal KV. Streams, so that a trace may be larger than memory.
 */
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { pipeline, type Readable, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'

import { isKvError, KvError } from '../../errors.js'
import { parseTraceLine, type TraceRequest } from './trace-line.js'

export type { TraceRequest } from './trace-line.js'

/** How {@link readTrace} and {@link loadTrace} tell how far they are. */
export interface ReadTraceOptions {
  /** Called now and then with the bytes of the file read so far and its size. */
  readonly onProgress?: (readBytes: number, totalBytes: number) => void
}

/** A longer line is no request. */
const MAX_LINE_BYTES = 64 * 1024 * 1024
const MAGIC_BYTES = 4
const NEW_LINE = 0x0a

/**
 * The requests of a trace, in the file's order.
 *
 * @throws KvError `ERR_KV_UNKNOWN_TRACE` when the file is missing, empty, or not in a format that is read;
 *   `ERR_KV_BAD_TRACE_LINE` with the line's number, what was expected and what there was; `ERR_KV_UNSUPPORTED` for zstd
 *   where this Node.js cannot read it; `ERR_KV_IO` when the file cannot be read
 */
export async function* readTrace(
  path: string,
  options: ReadTraceOptions = {},
): AsyncGenerator<TraceRequest, void, undefined> {
  const { stream, sizeBytes, readBytes } = await openTrace(path)
  let line = 0
  let requests = 0
  try {
    for await (const text of linesOf(stream, path)) {
      line++
      if (text.trim() === '') continue
      const request = parseTraceLine(text, path, line, requests === 0)
      requests++
      if ((requests & 0xff) === 0) options.onProgress?.(readBytes(), sizeBytes)
      yield request
    }
  } catch (error) {
    throw isKvError(error) ? error : readFailure(error, path, line)
  } finally {
    stream.destroy()
  }
  if (requests === 0) throw new KvError('ERR_KV_UNKNOWN_TRACE', `${path} holds no request.`)
  options.onProgress?.(sizeBytes, sizeBytes)
}

/** The name of a trace: its file's, without endings. */
export function traceName(path: string): string {
  return basename(path).replace(/(\.jsonl?|\.ndjson)?(\.gz|\.zst|\.zstd)?$/i, '')
}

interface OpenTrace {
  readonly stream: Readable
  readonly sizeBytes: number
  readonly readBytes: () => number
}

async function openTrace(path: string): Promise<OpenTrace> {
  let magic: Buffer
  let sizeBytes: number
  try {
    const file = await open(path, 'r')
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
      magic = buffer.subarray(0, bytesRead)
      sizeBytes = (await file.stat()).size
    } finally {
      await file.close()
    }
  } catch (error) {
    throw openFailure(error, path)
  }
  const file = createReadStream(path, { highWaterMark: 256 * 1024 })
  const unpack = unpackerOf(magic, path)
  // The error of either end reaches whoever reads the last stream.
  const stream = unpack === null ? file : pipeline(file, unpack, () => undefined)
  return { stream, sizeBytes, readBytes: () => file.bytesRead }
}

function unpackerOf(magic: Buffer, path: string): Transform | null {
  if (magic.length >= 2 && magic.readUInt16BE(0) === 0x1f8b) return zlib.createGunzip()
  if (magic.length < MAGIC_BYTES || magic.readUInt32BE(0) !== 0x28b52ffd) return null
  const make: unknown = Reflect.get(zlib, 'createZstdDecompress')
  if (typeof make === 'function') return (make as () => Transform)()
  throw new KvError(
    'ERR_KV_UNSUPPORTED',
    `${path} is packed with zstd, which Node.js reads from 22.15 on; this is ${process.version}. Unpack it, or pack it with gzip.`,
  )
}

/** Splits at line ends; the last line needs none. */
async function* linesOf(stream: Readable, path: string): AsyncGenerator<string, void, undefined> {
  const parts: Buffer[] = []
  let partBytes = 0
  let line = 1
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0
    for (let end = chunk.indexOf(NEW_LINE); end >= 0; end = chunk.indexOf(NEW_LINE, from)) {
      parts.push(chunk.subarray(from, end))
      yield Buffer.concat(parts).toString('utf8')
      parts.length = 0
      partBytes = 0
      line++
      from = end + 1
    }
    if (from < chunk.length) parts.push(chunk.subarray(from))
    partBytes += chunk.length - from
    if (partBytes > MAX_LINE_BYTES) throw tooLong(path, line)
  }
  if (parts.length > 0) yield Buffer.concat(parts).toString('utf8')
}

function tooLong(path: string, line: number): KvError {
  const code = line === 1 ? 'ERR_KV_UNKNOWN_TRACE' : 'ERR_KV_BAD_TRACE_LINE'
  return new KvError(
    code,
    `Line ${line} of ${path} is longer than ${MAX_LINE_BYTES} bytes; a line should be one request.`,
  )
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function openFailure(error: unknown, path: string): KvError {
  const code = codeOf(error)
  if (code === 'ENOENT') return new KvError('ERR_KV_UNKNOWN_TRACE', `There is no file ${path}.`, { cause: error })
  if (code === 'EISDIR')
    return new KvError('ERR_KV_UNKNOWN_TRACE', `${path} is a directory, not a trace.`, { cause: error })
  return new KvError('ERR_KV_IO', `${path} cannot be read: ${messageOf(error)}.`, { cause: error })
}

/** What went wrong while bytes were read: the packing is broken, or the disk is. */
function readFailure(error: unknown, path: string, line: number): KvError {
  if (!/^(Z_|ERR_ZSTD|ZSTD_|ERR_ZLIB)/.test(codeOf(error))) return openFailure(error, path)
  if (line === 0) {
    return new KvError('ERR_KV_UNKNOWN_TRACE', `${path} cannot be unpacked: ${messageOf(error)}.`, { cause: error })
  }
  return new KvError(
    'ERR_KV_BAD_TRACE_LINE',
    `Line ${line + 1} of ${path} was expected to follow; the packed data ends or breaks there: ${messageOf(error)}.`,
    { cause: error },
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
