/**
 * Element types of KV values and how many bytes they take. kvtier never looks into an element: it counts bytes.
 */
import { KvError } from '../errors.js'

/** A run of `values` values takes `bytes` bytes; block formats keep a scale beside each run. */
interface Width {
  readonly values: number
  readonly bytes: number
}

/** An element type that {@link bytesOfValues} can count; `q…` are llama.cpp's block formats. */
export type ElementType =
  | 'f32'
  | 'bf16'
  | 'f16'
  | 'fp8'
  | 'fp8_e4m3'
  | 'fp8_e5m2'
  | 'int8'
  | 'q8_0'
  | 'q5_1'
  | 'q5_0'
  | 'q4_1'
  | 'q4_0'

const WIDTHS: Readonly<Record<ElementType, Width>> = {
  f32: { values: 1, bytes: 4 },
  bf16: { values: 1, bytes: 2 },
  f16: { values: 1, bytes: 2 },
  fp8: { values: 1, bytes: 1 },
  fp8_e4m3: { values: 1, bytes: 1 },
  fp8_e5m2: { values: 1, bytes: 1 },
  int8: { values: 1, bytes: 1 },
  q8_0: { values: 32, bytes: 34 },
  q5_1: { values: 32, bytes: 24 },
  q5_0: { values: 32, bytes: 22 },
  q4_1: { values: 32, bytes: 20 },
  q4_0: { values: 32, bytes: 18 },
}

/** Every element type by name. */
export const ELEMENT_TYPES: readonly ElementType[] = Object.keys(WIDTHS) as ElementType[]

const CONFIG_NAMES: Readonly<Record<string, ElementType>> = {
  float32: 'f32',
  float: 'f32',
  bfloat16: 'bf16',
  float16: 'f16',
  half: 'f16',
  float8_e4m3fn: 'fp8_e4m3',
  float8_e5m2: 'fp8_e5m2',
}

/** Whether a value names an element type. */
export function isElementType(value: unknown): value is ElementType {
  return typeof value === 'string' && Object.hasOwn(WIDTHS, value)
}

/** The element type that a config.json means with `torch_dtype` or `dtype`; undefined when it is none that is known. */
export function elementTypeOfConfig(value: unknown): ElementType | undefined {
  if (typeof value !== 'string') return undefined
  const name = value.startsWith('torch.') ? value.slice('torch.'.length) : value
  if (isElementType(name)) return name
  return Object.hasOwn(CONFIG_NAMES, name) ? CONFIG_NAMES[name] : undefined
}

/**
 * The bytes of `count` values that lie side by side.
 *
 * @throws KvError ERR_KV_INVALID_VALUE when a block format does not divide `count` into whole runs
 */
export function bytesOfValues(type: ElementType, count: number): number {
  const { values, bytes } = WIDTHS[type]
  if (count % values !== 0) {
    throw new KvError(
      'ERR_KV_INVALID_VALUE',
      `dtype '${type}' stores runs of ${values} values, but a token has ${count} values a layer and part; ` +
        'choose a dtype that divides them.',
    )
  }
  return (count / values) * bytes
}
