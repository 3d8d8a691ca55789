import { expect, test } from 'vitest'
import { type StateImage, StateImages } from '../../../lib/connectors/node-llama-cpp/state-images.ts'
import type { Binding } from '../../../lib/native/binding.ts'
import type { Completions } from '../../../lib/native/completions.ts'

const MiB = 1024 * 1024

/** Images that are none, and how many are open. */
function imagesOf(): { images: StateImages; open: () => number } {
  let open = 0
  const binding = {
    openImage: () => {
      open++
      return {}
    },
    startCloseImage: () => {
      open--
    },
  } as unknown as Binding
  const completions = {
    call: async (start: (ticket: number) => void) => start(1),
  } as unknown as Completions
  return { images: new StateImages(binding, completions, 2), open: () => open }
}

test('images are kept between requests, as many as were asked for', async () => {
  const { images, open } = imagesOf()
  let first: StateImage | undefined
  await images.with(async (image) => {
    first = image
  })
  await images.with(async (image) => expect(image).toBe(first))
  await images.with(() => images.with(() => images.with(async () => expect(open()).toBe(3))))
  expect(open()).toBe(2)
  await images.close()
  expect(open()).toBe(0)
})

test('a large one is given back to the system, and so is one of a request that fails after the end', async () => {
  const { images, open } = imagesOf()
  await images.with(async (image) => image.noteSize(257 * MiB))
  expect(open()).toBe(0)
  const failing = images.with(async () => {
    await images.close()
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect(open()).toBe(0)
  await expect(images.with(async () => undefined)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
})
