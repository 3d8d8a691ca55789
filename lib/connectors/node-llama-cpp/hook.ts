/**
 * Standing in for methods of the engine's objects, and giving them back.
 */

/** An object of the engine, as names and what they are: what is hidden is asked for by name, for an engine may lack it. */
type Hooked = Record<string, unknown>

/** Any method. */
export type Method = (...given: unknown[]) => unknown

/** Whether an object has a method of that name. */
export function hasMethod(target: object, name: string): boolean {
  return typeof (target as Hooked)[name] === 'function'
}

/**
 * Replaces a method of one object. An object without it stays as it is.
 *
 * @param make - gets the method that was there, bound to the object, and gives what stands in for it
 * @returns gives the method back
 */
export function hookMethod(target: object, name: string, make: (original: Method) => Method): () => void {
  const hooked = target as Hooked
  const original = hooked[name]
  if (typeof original !== 'function') return () => undefined
  const own = Object.hasOwn(hooked, name)
  const replaced = make((...given) => original.apply(target, given))
  hooked[name] = replaced
  return () => {
    // Somebody else hooked it after us: theirs calls ours, which then only passes on.
    if (hooked[name] !== replaced) return
    if (own) hooked[name] = original
    else delete hooked[name]
  }
}
