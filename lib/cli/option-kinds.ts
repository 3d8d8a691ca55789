/**
 * The kinds of option a verb may have, what their texts mean, and what comes out: sizes in bytes, counts, shares.
 */
import { KvError } from '../errors.js'

/** A part of something: `5%` or a count. */
export type Share = { readonly percent: number } | { readonly count: number }

interface Described {
  /** One line, without a full stop. Says the default, if there is one. */
  readonly help: string
}

interface WithValue extends Described {
  /** What stands for the value in the help, in capitals. */
  readonly placeholder: string
  /** Whether the verb needs it. */
  readonly required?: true
}

/** Present or not. */
export interface FlagSpec extends Described {
  readonly kind: 'flag'
}
/** Any text that is not empty. */
export interface TextSpec extends WithValue {
  readonly kind: 'text'
}
/** One of a few words. */
export interface ChoiceSpec extends WithValue {
  readonly kind: 'choice'
  readonly choices: readonly string[]
}
/** An integer of at least 1. */
export interface CountSpec extends WithValue {
  readonly kind: 'count'
}
/** Bytes: `4096`, `64KiB`, `1.5GiB`, `2GB`. */
export interface SizeSpec extends WithValue {
  readonly kind: 'size'
}
/** `5%` (above 0, up to 1000) or a count. */
export interface ShareSpec extends WithValue {
  readonly kind: 'share'
}

/** One option. */
export type OptionSpec = FlagSpec | TextSpec | ChoiceSpec | CountSpec | SizeSpec | ShareSpec

/** A verb's options by name, without the dashes. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>

type RawValue<Spec extends OptionSpec> = Spec['kind'] extends 'count' | 'size'
  ? number
  : Spec['kind'] extends 'share'
    ? Share
    : string

/** What an option's text becomes. */
export type ValueOf<Spec extends OptionSpec> = Spec['kind'] extends 'flag'
  ? boolean
  : Spec extends { readonly required: true }
    ? RawValue<Spec>
    : RawValue<Spec> | undefined

/** What a verb's options become, by name. */
export type ValuesOf<Specs extends OptionSpecs> = { readonly [Name in keyof Specs]: ValueOf<Specs[Name]> }

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  tb: 1000 ** 4,
}

/** Throws ERR_KV_USAGE. */
export function usageError(message: string): never {
  throw new KvError('ERR_KV_USAGE', message)
}

function wrong(what: string, expected: string, text: string): never {
  return usageError(`${what} must be ${expected}, but is ${JSON.stringify(text)}.`)
}

/** Bytes from `4096`, `64KiB`, `1.5 GiB` or `2GB`; units with an i are powers of 1024. */
export function parseSize(what: string, text: string): number {
  const expected = 'a size of at least 1 byte, such as 4096, 64KiB or 2GiB'
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text)
  const unit = match === null ? undefined : UNITS[(match[2] ?? '').toLowerCase()]
  if (match === null || unit === undefined) return wrong(what, expected, text)
  const bytes = Math.round(Number(match[1]) * unit)
  return Number.isSafeInteger(bytes) && bytes >= 1 ? bytes : wrong(what, expected, text)
}

/** An integer of at least 1, with or without `_` or `,` between its digits. */
export function parseCount(what: string, text: string): number {
  const count = /^\d[\d_,]*$/.test(text) ? Number(text.replaceAll(/[_,]/g, '')) : Number.NaN
  return Number.isSafeInteger(count) && count >= 1 ? count : wrong(what, 'an integer of at least 1', text)
}

/** `5%` or a count. */
export function parseShare(what: string, text: string): Share {
  const match = /^(\d+(?:\.\d+)?)\s*%$/.exec(text)
  if (match === null) {
    if (!/^\d[\d_,]*$/.test(text)) return wrong(what, 'a share such as 5% or a count such as 2000', text)
    return { count: parseCount(what, text) }
  }
  const percent = Number(match[1])
  if (percent <= 0 || percent > 1000) return wrong(what, 'a share above 0% and up to 1000%', text)
  return { percent }
}

/** What a text means for an option that takes one. */
export function parseValue(what: string, spec: Exclude<OptionSpec, FlagSpec>, text: string): string | number | Share {
  if (text === '') return usageError(`${what} needs a value: ${what} ${spec.placeholder}.`)
  switch (spec.kind) {
    case 'text':
      return text
    case 'choice':
      return spec.choices.includes(text) ? text : wrong(what, `one of ${spec.choices.join(', ')}`, text)
    case 'count':
      return parseCount(what, text)
    case 'size':
      return parseSize(what, text)
    case 'share':
      return parseShare(what, text)
  }
}

/** How many of `total` a share is; at least 1. */
export function countOfShare(share: Share, total: number): number {
  return Math.max(1, 'count' in share ? share.count : Math.round((total * share.percent) / 100))
}
