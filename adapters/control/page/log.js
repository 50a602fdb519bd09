/** The gateway's own last log lines. */
import { el, plain } from './dom.js'
import { box } from './live.js'
import { count, time } from './words.js'

const LEVELS = ['debug', 'info', 'warn', 'error', 'fatal']
const TONES = { warn: 'wait', error: 'bad', fatal: 'bad' }

export function log() {
  const list = el('ol', { class: 'log', tabindex: '0', 'aria-label': 'Log lines' })
  const level = el('select', {}, ...LEVELS.map((one) => el('option', { value: one, selected: one === 'info' }, one)))
  const text = el('input', { type: 'search', spellcheck: 'false' })
  const follow = el('input', { type: 'checkbox', checked: true })
  const words = el('p', { class: 'note' })
  const show = () => {
    const least = LEVELS.indexOf(level.value)
    const wanted = text.value.toLowerCase()
    const lines = box.lines.filter(
      (line) => LEVELS.indexOf(line.level) >= least && `${line.message} ${line.fields}`.toLowerCase().includes(wanted),
    )
    list.replaceChildren(...lines.map(item))
    const lost = box.leftOut === 0 ? '' : ` ${count(box.leftOut)} came too fast to show.`
    words.textContent = `${lines.length} of the last ${box.lines.length} lines; journalctl -u edge-gateway has all.${lost}`
    if (follow.checked) list.scrollTop = list.scrollHeight
  }
  const refresh = (what) => {
    if (what === 'hello' || (what === 'lines' && follow.checked)) show()
  }
  level.addEventListener('change', show)
  text.addEventListener('input', show)
  follow.addEventListener('change', show)
  const form = el(
    'div',
    { class: 'row' },
    el('label', {}, 'Least severity', level),
    el('label', {}, 'Contains', text),
    el('label', { class: 'inline' }, follow, 'Follow'),
  )
  return {
    elements: [el('section', { class: 'card' }, el('h2', {}, 'Log of the gateway'), form, list, words)],
    refresh,
    close: () => undefined,
  }
}

function item({ at, level, message, fields }) {
  const body = el('span', { class: 'words' }, plain(message), ' ', el('span', { class: 'fields mono' }, ...fieldsOf(fields)))
  return el('li', { 'data-tone': TONES[level] }, el('time', { datetime: at }, time(at)), el('span', { class: 'level' }, level), body)
}

/** `key=value`, as far as the line was not cut. */
function fieldsOf(fields) {
  try {
    const values = fields === '' ? {} : JSON.parse(fields)
    const shown = (value) => (typeof value === 'string' ? value : JSON.stringify(value))
    return Object.entries(values).flatMap(([key, value]) => [el('b', {}, plain(key)), `=${plain(shown(value))}  `])
  } catch {
    return [plain(fields)]
  }
}
