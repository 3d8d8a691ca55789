import { expect, test } from 'vitest'
import { BlockManager } from '../lib/block-manager.ts'
import { fence } from '../lib/movement/fence.ts'
import { zeroCounters } from '../lib/stats.ts'
import { TEST_STRIDE, testOptions, tokens, withDirectory } from './support/manager.ts'
import { expectQuiet, tiersOf } from './support/outcomes.ts'
import { numbers, PROMPTS, promptOf } from './support/requests.ts'
import { emptyDevice, load, store } from './support/slots.ts'

test('counters begin at zero, and a snapshot does not change', async () => {
  for (const count of Object.values(zeroCounters())) expect(count).toBe(0)
  const manager = await BlockManager.open(testOptions(null))
  const before = manager.stats()
  expect(before.counters).toEqual(zeroCounters())
  await store(manager, manager.sequence(tokens(1, 16), { tenant: 'a' }))
  expect(before.counters).toEqual(zeroCounters())
  expect(manager.stats().counters.offloadedToHost).toBe(4)
  await manager.close()
})

test.each([1, 2, 3, 4, 5, 6])(
  'counters, outcomes and matches add up, whatever is asked for (seed %d)',
  async (seed) => {
    await withDirectory(async (directory) => {
      const manager = await BlockManager.open(
        testOptions(directory, {
          device: { kind: 'host', slots: 14 },
          host: { capacityBytes: 9 * TEST_STRIDE },
          disk: { directory, capacityBytes: 17 * (TEST_STRIDE + 128) },
        }),
      )
      const next = numbers(seed)
      const sums = { device: 0, host: 0, disk: 0, none: 0 }
      let loadedBytes = 0
      let storedBytes = 0
      for (let i = 0; i < 60; i++) {
        const sequence = manager.sequence(promptOf(next(PROMPTS), 1 + next(6)), { tenant: 'a' })
        const match = sequence.match()
        expect(match.byTier.device + match.byTier.host + match.byTier.disk).toBe(match.tokens)
        expect(match.tokens).toBe(match.blocks * 4)
        if (next(2) === 0) {
          const transfer = sequence.onboard({ after: fence.quiet() })
          const result = await transfer.done
          await transfer.settled
          expect(result.blockCount).toBe(match.blocks)
          for (const [block, tier] of tiersOf(result).entries()) {
            sums[tier as keyof typeof sums]++
            const expected = block * 4 < match.byTier.device ? 'device' : tier
            expect(tier).toBe(expected)
          }
          loadedBytes += result.bytes
          result.pin?.release()
        } else {
          const result = await store(manager, sequence, { until: next(2) === 0 ? 'disk' : 'host' })
          expect(result.arrived).toBe(tiersOf(result).filter((tier) => tier !== 'none').length)
          storedBytes += result.bytes
        }
        if (next(8) === 0) emptyDevice(manager)
        if (next(8) === 0) await manager.flush()
        expectQuiet(manager)
      }
      const { counters, tiers } = manager.stats()
      expect(sums.none).toBe(0)
      expect(counters).toMatchObject({
        onboardedFromDevice: sums.device,
        onboardedFromHost: sums.host,
        onboardedFromDisk: sums.disk,
        onboardedBytes: loadedBytes,
        diskReads: sums.disk,
        diskReadBytes: sums.disk * TEST_STRIDE,
        offloadedBytes: storedBytes,
        checksumFailures: 0,
        transferFailures: 0,
        abandoned: 0,
      })
      expect(storedBytes).toBe(counters.offloadedToHost * TEST_STRIDE)
      expect(loadedBytes).toBe((sums.host + sums.disk) * TEST_STRIDE)
      expect(counters.diskWriteBytes).toBe(counters.diskWrites * TEST_STRIDE)
      expect(counters.diskWrites - counters.evictedFromDisk).toBe(tiers.disk.held)
      expect(Math.min(sums.device, sums.host, sums.disk)).toBeGreaterThan(0)
      expect(await load(manager, manager.sequence(promptOf(0), { tenant: 'a' }))).toMatchObject({ wrong: 0 })
      await manager.close()
    })
  },
)
