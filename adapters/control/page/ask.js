/** Questions to the daemon, and to the person before something is done. */
import { el, say } from './dom.js'
import { box } from './live.js'

const ANSWER_MS = 15_000

/** Rejects with the daemon's words. */
export async function ask(path, options = {}) {
  const answer = await fetch(`/api${path}`, { cache: 'no-store', ...options }).catch(() => {
    throw new Error('the box does not answer')
  })
  if (answer.status === 401) location.assign('/login')
  if (answer.ok) return answer
  const { error, remedy } = await answer.json().catch(() => ({ error: `status ${answer.status}` }))
  throw new Error(remedy === undefined ? error : `${error}; ${remedy}`)
}

/** What hangs would hold one of the few connections that a browser has to the box. */
export async function look(path) {
  return (await ask(path, { signal: AbortSignal.timeout(ANSWER_MS) })).json()
}

export function act(path) {
  return ask(path, { method: 'POST', headers: { 'x-edge-proof': box.proof }, signal: AbortSignal.timeout(ANSWER_MS) })
}

/** Says it to a screen reader. */
export function tellAll(words) {
  say(document.getElementById('told'), words)
}

/** Resolves with the form's values, or undefined when the person thinks better of it. */
export function confirmed({ title, words, action, fields = [] }) {
  const dialog = document.getElementById('ask')
  const cancel = el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel')
  const form = el(
    'form',
    { method: 'dialog' },
    el('h2', { id: 'ask-title' }, title),
    el('p', {}, words),
    ...fields,
    el('div', { class: 'row' }, cancel, el('button', { class: 'main' }, action)),
  )
  dialog.replaceChildren(form)
  return new Promise((resolve) => {
    let values
    form.addEventListener('submit', () => (values = new FormData(form)))
    dialog.addEventListener('close', () => resolve(values), { once: true })
    dialog.showModal()
    if (fields.length === 0) cancel.focus()
  })
}
