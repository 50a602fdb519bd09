/** Devices, searched and paged by the daemon: a box may know tens of thousands. */
import { look, tellAll } from './ask.js'
import { chip, el, plain, renew, say, table } from './dom.js'
import { renewing } from './live.js'
import { count, rate, span } from './words.js'

const LIMIT = 25
const TONES = { online: 'ok', offline: 'idle', silent: 'bad', unknown: 'wait' }
const COLUMNS = [
  { title: 'Device', wide: true },
  { title: 'State' },
  { title: 'Last seen', num: true },
  { title: 'In', num: true },
  { title: 'Messages', num: true },
  { title: 'Shed', num: true },
  { title: 'Source' },
]

function option(value, words) {
  return el('option', { value }, words)
}

export function devices() {
  const search = el('input', { type: 'search', maxlength: '256', spellcheck: 'false', autocapitalize: 'none' })
  const state = el('select', {}, option('', 'all'), ...Object.keys(TONES).map((one) => option(one, one)))
  const sort = el(
    'select',
    {},
    option('id', 'name'),
    option('rate', 'rate'),
    option('seen', 'last seen'),
    option('shed', 'shed'),
    option('state', 'state'),
  )
  const place = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Devices' })
  const words = el('p', { class: 'note' })
  const back = el('button', { type: 'button' }, 'Back')
  const next = el('button', { type: 'button' }, 'Next')
  let pages = ['']
  /** The person asked; what renews itself is not read out. */
  let asked = false
  const show = async () => {
    const query = new URLSearchParams({
      search: search.value,
      state: state.value,
      sort: sort.value,
      limit: `${LIMIT}`,
      after: pages.at(-1),
    })
    for (const name of ['search', 'state', 'after']) if (query.get(name) === '') query.delete(name)
    try {
      const found = await look(`/devices?${query}`)
      renew(place, table('Devices', COLUMNS, found.devices.map(row)))
      const first = (pages.length - 1) * LIMIT
      const { online = 0, silent = 0, offline = 0, unknown = 0 } = found.counts ?? {}
      if (asked) tellAll(`${count(found.matched)} devices found, page ${pages.length}`)
      asked = false
      say(
        words,
        `${found.devices.length === 0 ? 'None' : `${count(first + 1)} to ${count(first + found.devices.length)}`} of ${count(found.matched)} found · ${count(online)} online, ${count(silent)} silent, ${count(offline)} offline, ${count(unknown)} not seen since the restart`,
      )
      next.disabled = found.next === undefined
      next.onclick = () => {
        pages.push(found.next)
        turn()
      }
      back.disabled = pages.length === 1
    } catch (error) {
      say(words, error.message)
    }
  }
  const renewal = renewing(show)
  const turn = () => {
    asked = true
    void renewal.again()
  }
  const anew = () => {
    pages = ['']
    turn()
  }
  back.onclick = () => {
    pages.pop()
    turn()
  }
  let typing
  search.addEventListener('input', () => {
    clearTimeout(typing)
    typing = setTimeout(anew, 250)
  })
  state.addEventListener('change', anew)
  sort.addEventListener('change', anew)
  const form = el(
    'div',
    { class: 'row', role: 'search' },
    el('label', {}, 'Search', search),
    el('label', {}, 'State', state),
    el('label', {}, 'Order', sort),
  )
  const element = el('section', { class: 'card' }, el('h2', {}, 'Devices'), form, words, place, el('div', { class: 'row' }, back, next))
  return { elements: [element], close: renewal.close }
}

function row({ device, state, lastSeenSeconds, inPerSecond, messages, shed, source, limitedBy }) {
  const name = el('span', { class: 'mono' }, plain(device))
  const limited = limitedBy === undefined ? '' : el('span', {}, ' ', chip('wait', 'over its limit'))
  return [
    el('span', {}, name, limited),
    chip(TONES[state] ?? 'idle', state),
    lastSeenSeconds === undefined ? '–' : `${span(lastSeenSeconds)} ago`,
    `${rate(inPerSecond)} /s`,
    count(messages),
    count(shed?.messages ?? shed),
    source ?? '',
  ]
}
