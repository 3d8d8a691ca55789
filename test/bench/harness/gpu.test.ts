import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { calibration, drawnOrder, findGpu, GpuBlocks, hashesOf, setChoices } from '../../../bench/harness/gpu.js'
import { COPY_STRATEGIES } from '../../../lib/native/generated.js'

const driver = join(dirname(process.env.KVTIER_ADDON ?? ''), 'libkvtier_sim_cuda.so')

describe('a drawn order', () => {
  it('has every slot once, not in its place, and is the same again', () => {
    const order = drawnOrder(64)
    expect(new Set(order)).toEqual(new Set(Array.from({ length: 64 }, (_, i) => i)))
    expect([...order]).not.toEqual([...order].sort((a, b) => a - b))
    expect(drawnOrder(64)).toEqual(order)
  })
})

describe('hashes of blocks', () => {
  it('differ from block to block and from seed to seed', () => {
    const hashes = new Set(
      [1, 2, 3].flatMap((seed) =>
        [0, 1].map((i) =>
          hashesOf(2, seed)
            .slice(i * 32, i * 32 + 32)
            .join(),
        ),
      ),
    )
    expect(hashes.size).toBe(6)
  })
})

describe.skipIf(!existsSync(driver))('blocks on a GPU, on the simulated driver', () => {
  let blocks: GpuBlocks

  beforeAll(async () => {
    process.env.KVTIER_CUDA_LIBRARY = driver
    blocks = await GpuBlocks.open(1024, 4, 8)
  })

  afterAll(async () => {
    await blocks.close()
  })

  it('are on a GPU that is known as simulated', async () => {
    expect(await findGpu()).toMatchObject({ simulated: true, library: driver })
  })

  for (const toDevice of [false, true]) {
    const way = toDevice ? 'to' : 'from'
    it(`move ${way} the GPU with every byte, by every strategy`, async () => {
      const calibrated = await calibration()
      for (const strategy of [null, ...COPY_STRATEGIES]) {
        setChoices(calibrated, strategy)
        await blocks.fill(toDevice)
        await blocks.move(toDevice, 'memoryToMemory')
        await blocks.check(toDevice)
      }
      setChoices(calibrated, null)
    })

    it(`are found wrong where they did not move ${way} the GPU`, async () => {
      await blocks.fill(toDevice)
      await expect(blocks.check(toDevice)).rejects.toThrow('does not hold the pattern')
    })
  }

  it('move with the checksum of an offload as well', async () => {
    await blocks.fill(false)
    await blocks.move(false, 'memoryToMemoryChecked')
    await blocks.check(false)
  })
})
