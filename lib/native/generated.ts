/**
 * The names that both sides of the seam share. Printed from the addon by `npm run generate`; do not edit: `npm run check`
 * fails when this file is stale.
 */

/** Every code of the addon; a code's place in this list is its number in the completion words. */
export const ERROR_CODES = [
  'OK',
  'ERR_KV_INVALID_TYPE',
  'ERR_KV_INVALID_VALUE',
  'ERR_KV_INVALID_TOKEN',
  'ERR_KV_NO_WHOLE_BLOCK',
  'ERR_KV_DETACHED_ARRAY',
  'ERR_KV_SLOT_OUT_OF_RANGE',
  'ERR_KV_SLOT_REPEATED',
  'ERR_KV_CAPACITY_TOO_SMALL',
  'ERR_KV_LAYOUT_MISMATCH',
  'ERR_KV_UNSUPPORTED_MODEL',
  'ERR_KV_UNKNOWN_POLICY',
  'ERR_KV_NOT_A_DIRECTORY',
  'ERR_KV_NOT_WRITABLE',
  'ERR_KV_UNSAFE_DIRECTORY',
  'ERR_KV_NO_SPACE',
  'ERR_KV_LOCKED',
  'ERR_KV_NOT_A_STORE',
  'ERR_KV_UNKNOWN_TRACE',
  'ERR_KV_BAD_TRACE_LINE',
  'ERR_KV_BAD_IMAGE',
  'ERR_KV_USAGE',
  'ERR_KV_CLOSED',
  'ERR_KV_RELEASED',
  'ERR_KV_ABORTED',
  'ERR_KV_DEADLINE',
  'ERR_KV_QUEUE_FULL',
  'ERR_KV_OUT_OF_BLOCKS',
  'ERR_KV_OVER_QUOTA',
  'ERR_KV_OUT_OF_MEMORY',
  'ERR_KV_IO',
  'ERR_KV_CHECKSUM',
  'ERR_KV_PARENT_LOST',
  'ERR_KV_UNSUPPORTED',
  'ERR_KV_DEVICE_LOST',
  'ERR_KV_ADDON_MISSING',
  'ERR_KV_INTERNAL',
] as const

/** The closed list of codes that a `KvError` may have. */
export type ErrorCode = Exclude<(typeof ERROR_CODES)[number], 'OK'>

/** Each code's number in the completion words. */
export const CODE = {
  OK: 0,
  ERR_KV_INVALID_TYPE: 1,
  ERR_KV_INVALID_VALUE: 2,
  ERR_KV_INVALID_TOKEN: 3,
  ERR_KV_NO_WHOLE_BLOCK: 4,
  ERR_KV_DETACHED_ARRAY: 5,
  ERR_KV_SLOT_OUT_OF_RANGE: 6,
  ERR_KV_SLOT_REPEATED: 7,
  ERR_KV_CAPACITY_TOO_SMALL: 8,
  ERR_KV_LAYOUT_MISMATCH: 9,
  ERR_KV_UNSUPPORTED_MODEL: 10,
  ERR_KV_UNKNOWN_POLICY: 11,
  ERR_KV_NOT_A_DIRECTORY: 12,
  ERR_KV_NOT_WRITABLE: 13,
  ERR_KV_UNSAFE_DIRECTORY: 14,
  ERR_KV_NO_SPACE: 15,
  ERR_KV_LOCKED: 16,
  ERR_KV_NOT_A_STORE: 17,
  ERR_KV_UNKNOWN_TRACE: 18,
  ERR_KV_BAD_TRACE_LINE: 19,
  ERR_KV_BAD_IMAGE: 20,
  ERR_KV_USAGE: 21,
  ERR_KV_CLOSED: 22,
  ERR_KV_RELEASED: 23,
  ERR_KV_ABORTED: 24,
  ERR_KV_DEADLINE: 25,
  ERR_KV_QUEUE_FULL: 26,
  ERR_KV_OUT_OF_BLOCKS: 27,
  ERR_KV_OVER_QUOTA: 28,
  ERR_KV_OUT_OF_MEMORY: 29,
  ERR_KV_IO: 30,
  ERR_KV_CHECKSUM: 31,
  ERR_KV_PARENT_LOST: 32,
  ERR_KV_UNSUPPORTED: 33,
  ERR_KV_DEVICE_LOST: 34,
  ERR_KV_ADDON_MISSING: 35,
  ERR_KV_INTERNAL: 36,
} as const

/** What each code means to a caller. */
export const ERROR_MEANINGS: Readonly<Record<(typeof ERROR_CODES)[number], string>> = {
  OK: 'The call succeeded.',
  ERR_KV_INVALID_TYPE: 'An argument has the wrong type.',
  ERR_KV_INVALID_VALUE: 'An option or number lies outside its documented range.',
  ERR_KV_INVALID_TOKEN: 'A token is not an integer between 0 and 4294967295.',
  ERR_KV_NO_WHOLE_BLOCK: 'The sequence has no whole block where one is needed.',
  ERR_KV_DETACHED_ARRAY: 'A typed array was detached or resized before the call read it.',
  ERR_KV_SLOT_OUT_OF_RANGE: 'A slot number is not a slot of its storage.',
  ERR_KV_SLOT_REPEATED: 'A slot is named twice in one call.',
  ERR_KV_CAPACITY_TOO_SMALL: "A tier's capacity is smaller than one block.",
  ERR_KV_LAYOUT_MISMATCH: 'A store or handle belongs to another layout.',
  ERR_KV_UNSUPPORTED_MODEL: "The model's configuration is not one that layoutOf can read.",
  ERR_KV_UNKNOWN_POLICY: 'No policy of that name is in the catalog.',
  ERR_KV_NOT_A_DIRECTORY: "The disk tier's directory is something else, a file for example.",
  ERR_KV_NOT_WRITABLE: "The disk tier's directory cannot be written.",
  ERR_KV_UNSAFE_DIRECTORY: 'The directory belongs to another user or others may write to it.',
  ERR_KV_NO_SPACE: 'The file system has no room for the disk tier.',
  ERR_KV_LOCKED: 'Another process or manager has the disk tier open.',
  ERR_KV_NOT_A_STORE: 'The directory or file holds no readable kvtier store.',
  ERR_KV_UNKNOWN_TRACE: 'The file is not in a trace format that replay reads.',
  ERR_KV_BAD_TRACE_LINE: 'A line of the trace cannot be read.',
  ERR_KV_BAD_IMAGE: "An engine's state image is not one that kvtier can read.",
  ERR_KV_USAGE: 'The command line is not one that the kvtier command takes.',
  ERR_KV_CLOSED: 'The manager, storage or handle was closed.',
  ERR_KV_RELEASED: 'The pin, reservation or window was released before.',
  ERR_KV_ABORTED: "The caller's AbortSignal ended the call.",
  ERR_KV_DEADLINE: 'The deadline passed first.',
  ERR_KV_QUEUE_FULL: "More blocks are in flight than the engine's queue holds.",
  ERR_KV_OUT_OF_BLOCKS: 'Every slot of the tier is pinned or being filled.',
  ERR_KV_OVER_QUOTA: "The tenant's quota is used up by blocks that cannot be evicted now.",
  ERR_KV_OUT_OF_MEMORY: 'Host or device memory could not be allocated.',
  ERR_KV_IO: "The operating system or the GPU's driver failed a read or a write.",
  ERR_KV_CHECKSUM: "A block's bytes are not those that were stored.",
  ERR_KV_PARENT_LOST: 'A block before this one was lost, so this one cannot be used.',
  ERR_KV_UNSUPPORTED: 'This machine or build lacks what the call needs.',
  ERR_KV_DEVICE_LOST: 'The GPU failed; this process must be restarted to use it again.',
  ERR_KV_ADDON_MISSING: 'The native addon could not be loaded.',
  ERR_KV_INTERNAL: 'A promise of kvtier was broken by kvtier itself; please report it.',
}

/** Limits that the addon checks. */
export const LIMITS = {
  maxBlocksPerTransfer: 16384,
  maxBlockBytes: 1073741824,
  recordWords: 5,
} as const

/** The ways in which memory may lie. */
export const LAYOUT_KINDS = ['contiguous', 'layersKvOuter', 'layersKvInner'] as const

/** The ways in which the bytes of a transfer may go. */
export const TRANSFER_PATHS = [
  'memoryToMemory',
  'memoryToMemoryChecked',
  'memoryToSlab',
  'slabToMemory',
  'slabToMemoryVia',
  'slabCheck',
] as const

/** The kinds of storage. */
export const STORAGE_KINDS = ['memory', 'device', 'slab'] as const

/** The ways to copy between a GPU and host memory, in the order of their numbers. */
export const COPY_STRATEGIES = ['single', 'rectangle', 'batch', 'kernel', 'staged'] as const
