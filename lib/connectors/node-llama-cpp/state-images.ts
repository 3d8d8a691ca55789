/**
 * State images: files in memory that the engine writes its state to and reads it from. One is used by one request at a
 * time. Of those that were put together a few, not large, are kept: the pages of a file that was written before cost
 * nothing. One that the engine writes it empties first, so that nothing of it is worth keeping.
 */
import { KvError } from '../../errors.js'
import type { Binding } from '../../native/binding.js'
import type { Completions } from '../../native/completions.js'
import type { BuiltImage, ImageHandle, ImageSectionKind, ImageSource, ReadImage } from '../../native/image-binding.js'
import { MiB } from '../../options.js'

/** Kept images have no more in all: they are memory that no tier's capacity counts. */
const MOST_KEPT_BYTES = 512 * MiB

/** One image, with what can be done to it. */
export class StateImage {
  readonly #binding: Binding
  readonly #completions: Completions
  readonly #handle: ImageHandle
  #sizeBytes = 0

  constructor(binding: Binding, completions: Completions) {
    this.#binding = binding
    this.#completions = completions
    this.#handle = binding.openImage()
  }

  /** Where the engine finds it. */
  get path(): string {
    return this.#binding.imagePath(this.#handle)
  }

  /** Bytes that it had at most, of what was put together in it. */
  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Looks at what the engine wrote; see startReadImage. */
  async read(sections: readonly ImageSectionKind[], maxTokens: number): Promise<ReadImage> {
    return await this.#completions.call<ReadImage>((ticket) =>
      this.#binding.startReadImage(ticket, this.#handle, 'llama', sections, maxTokens),
    )
  }

  /** Cuts blocks out of what was read last; see startCutImage. */
  async cut(section: number, storage: Parameters<Binding['startCutImage']>[3], moves: Uint32Array): Promise<void> {
    await this.#completions.call<undefined>((ticket) =>
      this.#binding.startCutImage(ticket, this.#handle, section, storage, moves),
    )
  }

  /** Writes the image of a prefix; see startBuildImage. */
  async build(shape: Uint32Array, tokens: Uint32Array, sources: readonly ImageSource[]): Promise<BuiltImage> {
    const built = await this.#completions.call<BuiltImage>((ticket) =>
      this.#binding.startBuildImage(ticket, this.#handle, shape, tokens, sources),
    )
    this.#sizeBytes = Math.max(this.#sizeBytes, built.bytes)
    return built
  }

  /** Whether two images have the same bytes. */
  async equals(other: StateImage): Promise<boolean> {
    return await this.#completions.call<boolean>((ticket) =>
      this.#binding.startCompareImages(ticket, this.#handle, other.#handle),
    )
  }

  /** Gives the memory back. */
  async close(): Promise<void> {
    await this.#completions.call<undefined>((ticket) => this.#binding.startCloseImage(ticket, this.#handle))
  }
}

/** The images of one cache. */
export class StateImages {
  readonly #binding: Binding
  readonly #completions: Completions
  readonly #free: StateImage[] = []
  #most: number
  #closed = false

  /** @param most - how many that were put together are kept while nobody uses them */
  constructor(binding: Binding, completions: Completions, most: number) {
    this.#binding = binding
    this.#completions = completions
    this.#most = most
  }

  /** Gives `work` an image of its own, for the engine to write. */
  async toSave<T>(work: (image: StateImage) => Promise<T>): Promise<T> {
    this.#checkOpen()
    return await this.#use(new StateImage(this.#binding, this.#completions), work, () => false)
  }

  /** Gives `work` an image of its own, to put together for the engine to read. */
  async toBuild<T>(work: (image: StateImage) => Promise<T>): Promise<T> {
    this.#checkOpen()
    const image = this.#free.pop() ?? new StateImage(this.#binding, this.#completions)
    return await this.#use(image, work, () => this.#hasRoomFor(image))
  }

  /** Gives back what nobody uses, and from now on what is in use after it. */
  async keepNone(): Promise<void> {
    this.#most = 0
    await Promise.all(this.#free.splice(0).map((image) => image.close()))
  }

  /** Lets nobody have any more. What is in use is given back after it. */
  async close(): Promise<void> {
    this.#closed = true
    await this.keepNone()
  }

  #hasRoomFor(image: StateImage): boolean {
    const bytes = this.#free.reduce((sum, { sizeBytes }) => sum + sizeBytes, image.sizeBytes)
    return this.#free.length < this.#most && bytes <= MOST_KEPT_BYTES
  }

  #checkOpen(): void {
    if (this.#closed) throw new KvError('ERR_KV_CLOSED', 'The cache was closed.')
  }

  async #use<T>(image: StateImage, work: (image: StateImage) => Promise<T>, isKept: () => boolean): Promise<T> {
    try {
      return await work(image)
    } finally {
      if (isKept()) this.#free.push(image)
      else await image.close()
    }
  }
}
