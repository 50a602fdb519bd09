/** Elements out of text. No markup is ever made from text, whoever wrote it. */

/** `el('p', { class: 'note' }, 'text', child)`; a property that is a function is listened to (`onclick`). */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children)
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children)
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.filter((child) => child !== undefined && child !== ''))
  return element
}

/** Writes only what is new, so that a selection and a screen reader are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** Leaves the old element where it says the same. */
export function renew(place, element) {
  if (place.textContent !== element.textContent || place.firstChild === null) place.replaceChildren(element)
}

export function card(title, ...children) {
  return el('section', { class: 'card' }, el('h2', {}, title), ...children)
}

const SIGNS = { ok: '✓', wait: '◷', bad: '✕', idle: '–' }

export function chip(tone, word) {
  return el('span', { class: 'chip', 'data-tone': tone }, el('span', { 'aria-hidden': 'true' }, SIGNS[tone]), word)
}

/** `columns`: { title, num?, wide?, full? }; `rows`: arrays of text or elements. On a phone each row becomes a block. */
export function table(caption, columns, rows) {
  const head = columns.map(({ title, num }) => el('th', { scope: 'col', class: num ? 'num' : undefined }, title))
  const cell = (content, { title, num, wide, full }) =>
    el(
      'td',
      { class: wide ? 'wide' : num ? 'num' : full ? 'full' : undefined, 'data-label': wide || title === '' ? undefined : title },
      content ?? '',
    )
  const lines = rows.map((row) => el('tr', {}, ...row.map((content, index) => cell(content, columns[index]))))
  return el(
    'table',
    { class: 'stack' },
    el('caption', { class: 'hidden' }, caption),
    el('thead', {}, el('tr', {}, ...head)),
    el('tbody', {}, ...lines),
  )
}

/** Control characters and those that turn the writing round, made visible. Line ends and tabs stay. */
export function plain(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const code = character.charCodeAt(0)
    return code < 32 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, '0')}`
  })
}
