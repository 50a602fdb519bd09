/** Patches on this box: which there are, what runs, and the technician's hold. */
import { act, confirmed, look, tellAll } from './ask.js'
import { card, chip, el, plain, table } from './dom.js'
import { box } from './live.js'
import { span, time } from './words.js'

const STEPS = ['prepare', 'fetch', 'build', 'pre', 'flip', 'activate', 'verify', 'bake', 'commit']
const TONES = {
  'in force': 'ok',
  running: 'wait',
  waiting: 'wait',
  next: 'wait',
  broken: 'bad',
  stopped: 'bad',
  completed: 'ok',
  failed: 'bad',
  'rolled-back': 'bad',
}
const PATCHES = [{ title: 'Patch', wide: true }, { title: 'State' }, { title: 'Channel' }, { title: 'Why', full: true }]
const RUNS = [
  { title: 'Patch', wide: true },
  { title: 'Outcome' },
  { title: 'Ended' },
  { title: 'Last step' },
  { title: 'Took', num: true },
  { title: 'Reason', full: true },
]

export function patches() {
  const running = el('div', {})
  const list = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Patches' })
  const runs = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Runs' })
  const hold = el('div', { class: 'row' })
  const words = el('p', { class: 'note', role: 'status' })
  const show = async () => {
    try {
      const [found, history] = await Promise.all([box.status?.patches ? look('/patches') : none(), look('/history?limit=20')])
      list.replaceChildren(
        found.patches.length === 0
          ? el('p', { class: 'note' }, found.words ?? 'No patches are known on this box.')
          : table('Patches', PATCHES, found.patches.map(patchRow)),
      )
      runs.replaceChildren(
        history.runs.length === 0
          ? el('p', { class: 'note' }, 'No patch has run on this box.')
          : table('Runs', RUNS, history.runs.map(runRow)),
      )
      words.textContent = found.stale === undefined ? '' : `This may be old: ${plain(found.stale)}`
      await showHold()
    } catch (error) {
      words.textContent = error.message
    }
  }
  const change = async (path, told) => {
    try {
      await act(path)
      words.textContent = told
      tellAll(told)
      await showHold()
    } catch (error) {
      words.textContent = error.message
    }
  }
  const showHold = async () => {
    const { hold: held } = await look('/hold')
    // The button stays the same one while it means the same: whoever has the focus on it keeps it.
    if (hold.dataset.held !== String(held !== undefined)) {
      hold.dataset.held = String(held !== undefined)
      const [press, text] = held === undefined ? [setHold, 'Hold patches…'] : [clearHold, 'End the hold…']
      hold.replaceChildren(el('p', {}), el('button', { type: 'button', onclick: () => void press(change) }, text))
    }
    hold.firstElementChild.textContent = held === undefined ? 'Patches may start here.' : holdLine(held)
  }
  const refresh = (what) => {
    if (what === 'change' || what === 'hello') showRunning(running)
  }
  void show()
  const turn = setInterval(() => void show(), 5_000)
  const elements = [card('Now', running), card('Hold', hold, words), card('Patches', list), card('Runs', runs)]
  return { elements, refresh, close: () => clearInterval(turn) }
}

function none() {
  return { patches: [], words: 'No patches come to this box: no etcd is named in its configuration.' }
}

function showRunning(place) {
  const now = box.status?.patches?.running
  const text = JSON.stringify(now ?? null)
  if (place.dataset.text === text) return
  place.dataset.text = text
  if (!now) return place.replaceChildren(el('p', { class: 'note' }, 'No patch runs.'))
  const at = STEPS.indexOf(now.step)
  const steps = (at < 0 ? [now.step] : STEPS).map((step, index) =>
    el('li', { 'data-step': at >= 0 && index < at ? 'done' : undefined, 'aria-current': step === now.step ? 'step' : undefined }, step),
  )
  const how = now.broken ? 'could not be taken back: a person is needed' : now.direction === 'forward' ? 'runs' : 'is taken back'
  place.replaceChildren(
    el('p', {}, el('strong', {}, plain(now.patch)), ` ${how}, attempt ${now.attempt}, in this step since ${time(now.since)}`),
    el('ol', { class: 'steps' }, ...steps),
  )
}

async function setHold(change) {
  const time = el(
    'select',
    { name: 'for' },
    ...[
      ['30m', '30 minutes'],
      ['2h', '2 hours'],
      ['8h', '8 hours'],
      ['24h', '1 day'],
      ['7d', '7 days'],
    ].map(([value, words]) => el('option', { value }, words)),
  )
  const why = el('input', { name: 'reason', maxlength: '200', required: true })
  const fields = [el('label', { class: 'field' }, 'For how long', time), el('label', { class: 'field' }, 'Why (others read it)', why)]
  const values = await confirmed({
    title: 'Hold patches on this box?',
    words: 'No patch starts here until the time is over or the hold is ended. What runs already goes on.',
    action: 'Hold',
    fields,
  })
  if (values !== undefined)
    await change(`/hold?${new URLSearchParams({ for: values.get('for'), reason: values.get('reason') })}`, 'Patches are held.')
}

function holdLine({ remainingSeconds, by, reason }) {
  return `No patch starts here for another ${span(remainingSeconds)}. Held by ${plain(by)}${reason === '' ? '' : `: ${plain(reason)}`}.`
}

async function clearHold(change) {
  const values = await confirmed({ title: 'End the hold?', words: 'Patches that wait may start here at once.', action: 'End the hold' })
  if (values !== undefined) await change('/hold/clear', 'Patches are held no more.')
}

function patchRow({ patch, state, channel, sequence, because, kind }) {
  return [
    el('span', { class: 'mono' }, plain(patch)),
    chip(TONES[state] ?? 'idle', state),
    channel === undefined ? '' : plain(`${channel} ${sequence ?? ''}${kind ? `, ${kind}` : ''}`),
    plain(because),
  ]
}

function runRow({ patch, outcome, step, reason, finishedAt, seconds }) {
  return [
    el('span', { class: 'mono' }, plain(patch)),
    chip(TONES[outcome] ?? 'wait', outcome),
    time(finishedAt),
    step,
    span(seconds),
    plain(reason ?? ''),
  ]
}
