/** Every group of benchmarks, in the order in which they run. A new one is a file in its suite's folder and a line here. */
import { READS_UNDER_WRITES } from './disk/reads-under-writes.js'
import { SLAB } from './disk/slab.js'
import { WARM_OPEN } from './disk/warm-open.js'
import { MAIN_THREAD } from './engine/main-thread.js'
import { MANY_USERS } from './engine/many-users.js'
import { RESTORE } from './engine/restore.js'
import type { GroupSpec } from './harness/types.js'
import { BLOCKS } from './micro/blocks.js'
import { COPY } from './micro/copy.js'
import { HASH } from './micro/hash.js'
import { IMAGES } from './micro/images.js'
import { PROMISES } from './micro/promises.js'
import { REPLAY } from './trace/replay.js'
import { EVENT_LOOP } from './transfer/event-loop.js'
import { GPU_TRANSFERS } from './transfer/gpu.js'
import { GPU_BESIDE_WORK } from './transfer/gpu-beside-work.js'
import { HOST_TRANSFERS } from './transfer/host.js'

/** See the file's first lines. */
export const CATALOG: readonly GroupSpec[] = [
  ...COPY,
  ...HASH,
  ...BLOCKS,
  ...IMAGES,
  ...PROMISES,
  ...HOST_TRANSFERS,
  ...EVENT_LOOP,
  ...GPU_TRANSFERS,
  ...GPU_BESIDE_WORK,
  ...SLAB,
  ...READS_UNDER_WRITES,
  ...WARM_OPEN,
  ...REPLAY,
  ...RESTORE,
  ...MAIN_THREAD,
  ...MANY_USERS,
]
