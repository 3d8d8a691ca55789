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
    startBuildImage: (_ticket: number, _image: unknown, shape: Uint32Array) => ({ bytes: shape[0], bad: [] }),
  } as unknown as Binding
  const completions = {
    call: async (start: (ticket: number) => void) => start(1),
  } as unknown as Completions
  return { images: new StateImages(binding, completions, 2), open: () => open }
}

test('images that are put together are kept between requests, as many as were asked for', async () => {
  const { images, open } = imagesOf()
  let first: StateImage | undefined
  await images.toBuild(async (image) => {
    first = image
  })
  await images.toBuild(async (image) => expect(image).toBe(first))
  await images.toBuild(() => images.toBuild(() => images.toBuild(async () => expect(open()).toBe(3))))
  expect(open()).toBe(2)
  await images.close()
  expect(open()).toBe(0)
})

test('none are kept once nobody will need them again, and who still does gets one', async () => {
  const { images, open } = imagesOf()
  await images.toBuild(async () => undefined)
  await images.toBuild(async () => {
    await images.toBuild(async () => undefined)
    expect(open()).toBe(2)
    await images.keepNone()
    expect(open()).toBe(1)
  })
  expect(open()).toBe(0)
  await images.toBuild(async () => expect(open()).toBe(1))
  expect(open()).toBe(0)
})

test('one that the engine writes is none of the kept ones, and given back at once', async () => {
  const { images, open } = imagesOf()
  let kept: StateImage | undefined
  await images.toBuild(async (image) => {
    kept = image
  })
  await images.toSave(async (image) => {
    expect(image).not.toBe(kept)
    expect(open()).toBe(2)
  })
  expect(open()).toBe(1)
  await images.close()
})

test('what is too large in all is given back to the system, and so is one of a request that fails after the end', async () => {
  const { images, open } = imagesOf()
  const ofBytes = (bytes: number) => async (image: StateImage) => {
    await image.build(Uint32Array.of(bytes), new Uint32Array(), [])
  }
  await images.toBuild(ofBytes(513 * MiB))
  expect(open()).toBe(0)
  await images.toBuild(ofBytes(512 * MiB))
  expect(open()).toBe(1)
  // The kept one and another would be too much.
  await images.toBuild(() => images.toBuild(ofBytes(1)))
  expect(open()).toBe(1)
  const failing = images.toBuild(async () => {
    await images.close()
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect(open()).toBe(0)
  await expect(images.toBuild(async () => undefined)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
  await expect(images.toSave(async () => undefined)).rejects.toMatchObject({ code: 'ERR_KV_CLOSED' })
})
