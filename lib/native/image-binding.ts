/** The part of the seam that is about state images: what its calls take and give. The calls are in `binding.ts`. */
import type { StorageHandle } from './binding.js'

declare const tag: unique symbol
/** A state image: a file in memory that an engine writes or reads by its path. One task at a time. */
export interface ImageHandle {
  readonly [tag]: 'image'
}

/** Engines whose state images are known. */
export type ImageEngine = 'llama'

/**
 * What a section of an image is. attention: cells with rows of K and V; latent: cells with rows of K only; recurrent: one
 * state, in the last section.
 */
export type ImageSectionKind = 'attention' | 'latent' | 'recurrent'

/** One section of an image that was read. */
export interface ImageSection {
  readonly kind: ImageSectionKind
  /** recurrent: the layers that have a state. */
  readonly layers: number
  /** recurrent: the position of the state. */
  readonly firstPosition: number
  /** Positions from the first one on, each once. recurrent: 1. */
  readonly cellCount: number
  /** Sum over the layers of a token's K and V; recurrent: bytes of the whole state. */
  readonly bytesPerToken: number
  /** V lies [embedding][token] in the image, and in a block. */
  readonly transposed: boolean
  /** Four words a layer: type and row bytes (of one token) of K, then of V. recurrent: of R, then of S. */
  readonly rows: Uint32Array
}

/** Result of `startReadImage`. Arrays belong to the caller. */
export interface ReadImage {
  readonly version: number
  /** The tokens that the image begins with. There may be cells for more. */
  readonly tokens: Uint32Array
  /** All but tokens, positions and payload: what `startBuildImage` takes. See native/images/image_shape.h. */
  readonly shape: Uint32Array
  readonly sections: readonly ImageSection[]
}

/** Where one section's blocks of a new image come from. */
export interface ImageSource {
  /** Contiguous host memory of the addon's own, whose slots keep checksums. */
  readonly storage: StorageHandle
  /** The number of the first block: the section has cells from `firstBlock * tokensPerBlock` on. recurrent: 0. */
  readonly firstBlock: number
  /** Consecutive blocks. Of the last one only the tokens are used that the image has. recurrent: one slot. */
  readonly slots: Uint32Array
  /** 32 bytes a slot: the hashes that the blocks' checksums are seeded with. */
  readonly hashes: Uint8Array
}

/** Result of `startBuildImage`. */
export interface BuiltImage {
  /** Length of the image; 0 where a block was bad. */
  readonly bytes: number
  /** Two words a block whose bytes are not those of its checksum: section, index in its slots. */
  readonly bad: Uint32Array
}
