/** Every verb of the command by name. A new one is a file beside this one and a line in the list. */
import type { Verb } from './context.js'
import { demo } from './demo.js'
import { doctor } from './doctor.js'
import { inspect } from './inspect.js'
import { replay } from './replay.js'
import { verify } from './verify.js'

/** The verbs in the order in which help lists them. */
export const VERBS: readonly Verb[] = [demo, doctor, replay, inspect, verify]
