/**
 * What the binding says of a slab that was opened: its blocks, and how they go to a GPU.
 */

/**
 * What an opened slab's table held, one entry a block, a sequence's blocks after each other from its first one on. Arrays
 * belong to the caller.
 */
export interface SlabContents {
  readonly hashes: Uint8Array
  readonly slots: Uint32Array
  /** Index of the parent in these arrays; -1 for a sequence's first block. */
  readonly parents: Int32Array
  readonly depths: Uint32Array
  readonly tenantTags: Uint32Array
  readonly priorities: Uint32Array
  readonly expiresAtS: Uint32Array
  readonly lastUsesS: Uint32Array
  readonly recordsRejected: number
  readonly recordsSuperseded: number
  readonly recordsOrphaned: number
  /** Records that are missing here because the disk failed where they are. */
  readonly recordsUnreadable: number
}

/** How loads of one kind go from disk to a GPU where they leave no copy in host memory. */
export interface DirectLoads {
  /** Directly; otherwise through host memory. */
  readonly direct: boolean
  /** Billions of bytes a second of either way, checksums included, when the manager was opened; null: not measured. */
  readonly directGbPerS: number | null
  readonly stagedGbPerS: number | null
}

/** Whether blocks go directly from disk to a GPU's memory, by kind of load. */
export interface DiskToDevice {
  /** Whether loads of some kind go directly. */
  readonly available: boolean
  /** Why not, where loads of some kind do not: what is missing, or how much faster the other way was; otherwise empty. */
  readonly reason: string
  /** Loads of one block, or a few, that lie together on disk. */
  readonly block: DirectLoads
  /** Loads of about 2 MiB that lie together on disk, into slots that follow each other. */
  readonly run: DirectLoads
  /** The same into slots that do not. */
  readonly scattered: DirectLoads
}
