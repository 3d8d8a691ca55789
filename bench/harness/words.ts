/** Words that are spread as evenly as a hash's, the same in every run. */
export function evenWords(count: number, seed: number): Uint32Array {
  const words = new Uint32Array(count)
  let state = Math.imul(seed >>> 0, 0x27d4eb2f) >>> 0
  for (let i = 0; i < count; i++) {
    state = (state + 0x9e3779b9) >>> 0
    let word = state
    word = Math.imul(word ^ (word >>> 16), 0x85ebca6b)
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
    words[i] = word ^ (word >>> 16)
  }
  return words
}
