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

/** One replaced method: what it passes on to, and whether that was the object's own. */
interface Layer {
  under: Method
  own: boolean
}

/** By what stands in for a method: layers may leave in any order, and those above then pass on to what was below. */
const layers = new WeakMap<object, Layer>()

/**
 * Replaces a method of one object. An object without it stays as it is.
 *
 * @param make - gets what was there, bound to the object, and gives what stands in for it
 * @returns gives the method back
 */
export function hookMethod(target: object, name: string, make: (original: Method) => Method): () => void {
  const hooked = target as Hooked
  const under = hooked[name]
  if (typeof under !== 'function') return () => undefined
  const layer: Layer = { under: under as Method, own: Object.hasOwn(hooked, name) }
  const replaced = make((...given) => layer.under.apply(target, given))
  layers.set(replaced, layer)
  hooked[name] = replaced
  return () => {
    if (hooked[name] === replaced) {
      if (layer.own) hooked[name] = layer.under
      else delete hooked[name]
      return
    }
    const above = layerOver(hooked[name], replaced)
    // Somebody else hooked it after us: theirs calls ours, which then only passes on.
    if (above !== undefined) Object.assign(above, layer)
  }
}

/** The layer right above a method, in a chain of ours; undefined where somebody else's is between. */
function layerOver(top: unknown, method: Method): Layer | undefined {
  for (let layer = layers.get(top as object); layer !== undefined; layer = layers.get(layer.under)) {
    if (layer.under === method) return layer
  }
  return undefined
}
