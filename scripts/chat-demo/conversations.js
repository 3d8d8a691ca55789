/**
 * What the demo's users and its system prompt say: plain text, the same in every run, and another text for every user and
 * turn.
 */

/**
 * How large the conversations are; texts in characters, answers in tokens.
 *
 * @typedef {{ users: number, turns: number, system: number, message: number, answer: number }} Sizes
 */

const RULES = [
  'Answer in one short paragraph.',
  'Name the shelf where a book stands.',
  'A loan lasts four weeks and can be extended twice.',
  'Say so when a question is not about the library.',
  'Never tell who has borrowed a book.',
  'Dictionaries and maps are read in the reading room.',
  'The reading room is open from eight in the morning to nine in the evening.',
  'Requests for new books go to the desk on the first floor.',
  'Children have a room of their own on the ground floor.',
  'A lost card is replaced on the same day.',
]

const SUBJECTS = 'rivers bridges clocks gardens whales comets castles bees maps trains glaciers violins'.split(' ')
const WISHES = [
  'I am looking for a book about',
  'My daughter wants to know more about',
  'Which shelf has something on',
  'Could you extend my loan of the one about',
  'What would you read first about',
]
const ADDITIONS = [
  'It may be an old one.',
  'Pictures would be good to have.',
  'I have an hour before the train leaves.',
  'The last one was too hard to read.',
  'I could come by tomorrow at noon.',
]

/** @template T @param {readonly T[]} list @param {number} number @returns {T} */
function pick(list, number) {
  return /** @type {T} */ (list[number % list.length])
}

/** @param {number} length @param {(number: number) => string} sentence @returns {string} sentences up to a length */
function textOf(length, sentence) {
  let text = ''
  for (let number = 0; text.length < length; number += 1) text += `${text === '' ? '' : ' '}${sentence(number)}`
  return text.slice(0, length).trimEnd()
}

/**
 * The system prompt that all users share.
 *
 * @param {Sizes} sizes
 * @returns {string}
 */
export function systemPrompt(sizes) {
  const opening = 'You answer the letters that reach a public library.'
  return textOf(sizes.system, (number) => (number === 0 ? opening : `Rule ${number}: ${pick(RULES, number - 1)}`))
}

/**
 * What a user says in a turn.
 *
 * @param {Sizes} sizes
 * @param {number} user
 * @param {number} turn
 * @returns {string}
 */
export function message(sizes, user, turn) {
  const first = user * 7 + turn * 3
  return textOf(sizes.message, (number) =>
    number % 2 === 0
      ? `${pick(WISHES, first + number)} ${pick(SUBJECTS, user + 5 * turn + number)}.`
      : pick(ADDITIONS, first + number),
  )
}
