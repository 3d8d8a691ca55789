/**
 * What the demo runs: sizes chosen so that every tier overflows and the whole takes well under a minute on two cores.
 */
import type { DeviceOptions } from '../../device-options.js'
import { defineLayout, type ModelLayout } from '../../identity/model-layout.js'
import { MiB } from '../../options.js'
import type { WorkloadShape } from './workload.js'

/** What G1 is: plain memory, or the first GPU's. */
export type DemoDevice = 'host' | 'cuda'

/** 256 KiB a block of 16 tokens: 8 layers of 1 KiB a token for each of K and V. */
export const DEMO_LAYOUT: ModelLayout = defineLayout({
  tokensPerBlock: 16,
  dtype: 'bf16',
  groups: [{ name: 'full', kind: 'full', layers: 8, bytesPerToken: 1024 }],
})

/** The workload: 288 requests of 24 users. */
export const DEMO_WORKLOAD: WorkloadShape = {
  seed: 20,
  users: 24,
  turns: 12,
  tenants: 3,
  systemPrompts: 2,
  systemTokens: 1_024,
  turnTokens: [48, 160],
}

/** Device slots, and bytes of host memory and disk. */
export const DEMO_CAPACITY: { readonly deviceSlots: number; readonly hostBytes: number; readonly diskBytes: number } = {
  deviceSlots: 768,
  hostBytes: 256 * MiB,
  diskBytes: 1_024 * MiB,
}

/** Owned device memory of a kind. */
export function demoDevice(kind: DemoDevice, slots: number): DeviceOptions {
  return kind === 'cuda' ? { kind, slots } : { kind, slots }
}

/** Requests that are served at the same time. */
export const DEMO_CONCURRENCY = 3
