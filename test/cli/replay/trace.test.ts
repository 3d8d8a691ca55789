import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as zlib from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { readTrace, type TraceRequest, traceName } from '../../../lib/cli/replay/trace.js'
import type { ErrorCode } from '../../../lib/errors.js'
import { haveTraces, NEEDS_TRACES, tracePath } from '../../support/published-traces.js'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-trace-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

async function readAll(path: string): Promise<TraceRequest[]> {
  const requests: TraceRequest[] = []
  for await (const request of readTrace(path)) requests.push(request)
  return requests
}

async function failure(code: ErrorCode, path: string): Promise<string> {
  const error = await readAll(path).then(
    () => null,
    (caught: unknown) => caught,
  )
  expect(error).toMatchObject({ name: 'KvError', code })
  return (error as Error).message
}

const LINES = [
  '{"timestamp": 5, "input_length": 100, "output_length": 7, "session": 3, "hash_ids": [0, 1, 9007199254740991]}',
  '',
  '{"timestamp": 6.5, "hash_ranges": [[4, 3], [9, 1]]}',
].join('\n')

const REQUESTS = [
  { timestampMs: 5, inputLength: 100, outputLength: 7, session: 3, ids: Float64Array.of(0, 1, 9007199254740991) },
  { timestampMs: 6.5, inputLength: 0, outputLength: 0, ids: Float64Array.of(4, 5, 6, 9) },
]

const zstd: unknown = Reflect.get(zlib, 'zstdCompressSync')

describe('reading a trace', () => {
  it('gives its requests, from plain and from gzip files, with a last line end or without, whatever the name says', async () => {
    expect(await readAll(write('plain', LINES))).toEqual(REQUESTS)
    expect(await readAll(write('ended.jsonl', `${LINES}\r\n`))).toEqual(REQUESTS)
    expect(await readAll(write('packed.jsonl', zlib.gzipSync(LINES)))).toEqual(REQUESTS)
    expect(await readAll(write('marked.jsonl', `\uFEFF${LINES}`))).toEqual(REQUESTS)
  })

  it.runIf(typeof zstd === 'function')('reads zstd where this Node.js can', async () => {
    const packed = (zstd as (text: string) => Uint8Array)(LINES)
    expect(await readAll(write('packed.zst', packed))).toEqual(REQUESTS)
  })

  it.skipIf(typeof zstd === 'function')('says which Node.js reads zstd where this one cannot', async () => {
    const path = write('packed.zst', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0))
    expect(await failure('ERR_KV_UNSUPPORTED', path)).toContain('22.15')
  })

  it('puts lines together that arrive in several pieces', async () => {
    const ids = Array.from({ length: 200_000 }, (_, id) => id)
    const path = write('long.jsonl', `${JSON.stringify({ hash_ids: ids })}\n`.repeat(3))
    expect((await readAll(path)).map((request) => request.ids.length)).toEqual([200_000, 200_000, 200_000])
  })

  it('tells how far it is, up to the end', async () => {
    const path = write('progress.jsonl', '{"hash_ids": [1]}\n'.repeat(1000))
    const seen: (readonly [number, number])[] = []
    for await (const _ of readTrace(path, { onProgress: (read, total) => seen.push([read, total]) }));
    expect(seen.length).toBeGreaterThan(2)
    expect(seen.at(-1)).toEqual([18_000, 18_000])
  })

  it.skipIf(!haveTraces)(`reads the public traces in both formats (${NEEDS_TRACES})`, async () => {
    const byName = [
      ['mooncake_synthetic', 3_993, 121_877],
      ['claude_code_global_v6_b512', 25_527, 4_468_461],
    ] as const
    for (const [name, requests, references] of byName) {
      const all = await readAll(tracePath(name))
      expect(all.length).toBe(requests)
      expect(all.reduce((sum, { ids }) => sum + ids.length, 0)).toBe(references)
    }
  })
})

describe('a file that is no trace', () => {
  const cases: readonly [string, string | Uint8Array, string][] = [
    ['is empty', '', 'holds no request'],
    ['holds blank lines only', '\n \n', 'holds no request'],
    ['is text', 'hello\nworld\n', "is 'hello'"],
    ['is JSON of another kind', '[1, 2]', "is '[1, 2]'"],
    ['has objects of another kind', '{"a": 1}', 'hash_ids or hash_ranges'],
    ['is binary', Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0), 'ELF'],
    [
      'is no gzip after its first bytes',
      Uint8Array.of(0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
      'cannot be unpacked',
    ],
  ]
  for (const [what, content, message] of cases) {
    it(`is refused when it ${what}`, async () => {
      expect(await failure('ERR_KV_UNKNOWN_TRACE', write('no-trace', content))).toContain(message)
    })
  }

  it('is refused when it is missing or a directory', async () => {
    expect(await failure('ERR_KV_UNKNOWN_TRACE', join(folder, 'missing'))).toContain('There is no file')
    expect(await failure('ERR_KV_UNKNOWN_TRACE', folder)).toContain('directory')
  })
})

describe('a line that cannot be read', () => {
  const good = '{"hash_ids": [1]}'
  const cases: readonly [string, string][] = [
    ['{"hash_ids": [1}', 'a JSON object'],
    ['{"input_length": 1}', 'a JSON object with hash_ids or hash_ranges'],
    ['{"hash_ids": [1], "hash_ranges": [[1, 1]]}', 'there was both'],
    ['{"hash_ids": {"0": 1}}', 'a list of block ids'],
    ['{"hash_ids": [1, -1]}', "block id 1 to be an integer from 0 to 2^53 - 1 was expected, there was '-1'"],
    ['{"hash_ids": [1.5]}', "'1.5'"],
    ['{"hash_ids": ["1"]}', `'"1"'`],
    ['{"hash_ids": [9007199254740992]}', '9007199254740992'],
    ['{"hash_ids": [null]}', "'null'"],
    ['{"hash_ranges": 5}', 'a list of [first id, count]'],
    ['{"hash_ranges": [5]}', 'range 0 to be [first id, count], integers from 0 to 2^53 - 1 with a count of at least 1'],
    ['{"hash_ranges": [[1, 1], [5, 0]]}', 'range 1'],
    ['{"hash_ranges": [[5, 1, 1]]}', "'[5,1,1]'"],
    ['{"hash_ranges": [[9007199254740991, 2]]}', 'range 0'],
    ['{"hash_ranges": [[0, 9007199254740991]]}', 'at most 4194304 blocks'],
    ['{"hash_ids": [1], "timestamp": -1}', 'timestamp to be a number, not negative'],
    ['{"hash_ids": [1], "input_length": "12"}', 'input_length'],
    ['{"hash_ids": [1], "output_length": []}', 'output_length'],
    ['{"hash_ids": [1], "session": true}', 'session'],
  ]
  for (const [text, message] of cases) {
    it(`is named with its number, what was expected and what there was: ${text}`, async () => {
      const said = await failure('ERR_KV_BAD_TRACE_LINE', write('bad', `${good}\n\n${text}\n${good}\n`))
      expect(said).toContain('Line 3 of')
      expect(said).toContain(message)
    })
  }

  it('is the one where a packed file breaks off', async () => {
    const lines = Array.from({ length: 20_000 }, (_, i) =>
      JSON.stringify({ hash_ids: [Math.imul(i, 0x9e3779b1) >>> 0] }),
    )
    const packed = zlib.gzipSync(lines.join('\n'))
    const said = await failure('ERR_KV_BAD_TRACE_LINE', write('cut.gz', packed.subarray(0, packed.length >> 1)))
    expect(said).toMatch(/Line \d+ of .* was expected to follow/)
  })

  it('is one that goes on for ever', async () => {
    const path = write('endless.gz', zlib.gzipSync(Buffer.alloc(65 * 1024 * 1024, 0x20), { level: 1 }))
    expect(await failure('ERR_KV_UNKNOWN_TRACE', path)).toContain('longer than 67108864 bytes')
  })

  it('does not come after the requests before it are lost', async () => {
    const seen: number[] = []
    await expect(async () => {
      for await (const { ids } of readTrace(write('half', `${good}\n${good}\n{}\n`))) seen.push(ids.length)
    }).rejects.toMatchObject({ code: 'ERR_KV_BAD_TRACE_LINE' })
    expect(seen).toEqual([1, 1])
  })
})

it('names a trace by its file without endings', () => {
  const paths = ['/a/b/chat.jsonl.gz', 'chat.jsonl', 'chat.json.zst', 'chat', '/x/chat.ndjson']
  expect(paths.map(traceName)).toEqual(['chat', 'chat', 'chat', 'chat', 'chat'])
  expect(traceName('v1.2_trace.jsonl.gz')).toBe('v1.2_trace')
})
