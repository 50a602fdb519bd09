/** Messages that Kafka can never take: kept, shown on demand, tried again on order. */
import { act, confirmed, look } from './ask.js'
import { el, plain } from './dom.js'
import { box } from './live.js'
import { size, time } from './words.js'

const SHOWN_MAX = 64 * 1024

export function letters() {
  const list = el('ul', {})
  const words = el('p', { class: 'note', role: 'status' })
  let known = ''
  const show = async () => {
    try {
      const { deadLetters } = await look('/dead-letters?limit=100')
      const ids = deadLetters.map(({ id }) => id).join()
      if (ids === known && list.firstChild !== null) return
      known = ids
      list.replaceChildren(...deadLetters.map((letter) => item(letter, retry)))
      if (deadLetters.length === 0)
        list.replaceChildren(el('li', { class: 'note' }, 'No dead letters: everything that came could be sent, or waits.'))
    } catch (error) {
      words.textContent = error.message
    }
  }
  const retry = async (letter) => {
    const values = await confirmed({
      title: `Try dead letter ${letter.id} again?`,
      words: `It goes back into the buffer and on to Kafka. If the cause stands, it comes back here: ${plain(letter.reason)}`,
      action: 'Try again',
    })
    if (values === undefined) return
    try {
      await act(`/dead-letters/${letter.id}/retry`)
      words.textContent = `Dead letter ${letter.id} is on its way again.`
      known = '-'
      await show()
    } catch (error) {
      words.textContent = error.message
    }
  }
  let before
  const refresh = () => {
    const now = box.status?.buffer?.deadLetters
    if (now !== before) void show()
    before = now
  }
  const element = el('section', { class: 'card' }, el('h2', {}, 'Dead letters'), words, list)
  return { elements: [element], refresh, close: () => undefined }
}

function item(letter, retry) {
  const body = el('div', {})
  const button = el(
    'button',
    { type: 'button', 'aria-expanded': 'false', onclick: () => void toggle(letter, body, button) },
    'Show the message',
  )
  const again = el('button', { type: 'button', onclick: () => void retry(letter) }, 'Try again…')
  const head = el(
    'p',
    {},
    el('strong', {}, `${letter.id} `),
    el('span', { class: 'mono' }, plain(letter.device)),
    ` · ${letter.lane} · ${size(letter.bytes)} · ${time(letter.at)}`,
  )
  const why = el('p', {}, plain(letter.reason))
  const topic = el('p', { class: 'soft mono' }, plain(letter.topic))
  return el('li', { class: 'letter' }, head, why, topic, el('div', { class: 'row' }, button, again), body)
}

async function toggle({ id }, body, button) {
  if (body.firstChild !== null) {
    body.replaceChildren()
    button.setAttribute('aria-expanded', 'false')
    button.textContent = 'Show the message'
    return
  }
  try {
    const { payloadBase64 = '' } = await look(`/dead-letters/${encodeURIComponent(id)}?payload=1`)
    const bytes = Uint8Array.from(atob(payloadBase64), (character) => character.charCodeAt(0))
    const text = plain(new TextDecoder().decode(bytes.subarray(0, SHOWN_MAX)))
    const cut = bytes.length > SHOWN_MAX ? el('p', { class: 'note' }, `The first ${size(SHOWN_MAX)} of ${size(bytes.length)}.`) : ''
    body.replaceChildren(el('pre', { tabindex: '0', 'aria-label': `Message of dead letter ${id}` }, text === '' ? '(empty)' : text))
    if (cut !== '') body.append(cut)
    button.setAttribute('aria-expanded', 'true')
    button.textContent = 'Hide the message'
  } catch (error) {
    body.replaceChildren(el('p', { class: 'trouble' }, error.message))
  }
}
