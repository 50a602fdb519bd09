/** Patches on this box: which there are, what runs, and the technician's hold. */
import { act, confirmed, look, tellAll } from './ask.js'
import { card, chip, el, plain, renew, say, table } from './dom.js'
import { box, renewing } from './live.js'
import { local, span, stepName, stepsOf, stepWords, time } from './words.js'

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
  const running = el('div', { class: 'now' })
  const list = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Patches' })
  const runs = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Runs' })
  const hold = el('div', { class: 'row' })
  const words = el('p', { class: 'note', role: 'status' })
  // It counts seconds: nothing for a screen reader to say each time.
  const old = el('p', { class: 'note' })
  let done = ''
  const show = async () => {
    // Whether patches come to this box at all is not known before the daemon has spoken.
    if (box.status === undefined) return
    try {
      const [found, history, { hold: held }] = await Promise.all([
        comesHere() ? look('/patches') : none(),
        look('/history?limit=20'),
        look('/hold'),
      ])
      renew(list, listOf(found))
      renew(runs, runsOf(history))
      showHold(hold, held, change)
      say(old, found.stale === undefined ? '' : `This may be old: ${plain(found.stale)}`)
      say(words, done)
      showRunning(running, history.runs[0])
    } catch (error) {
      say(words, error.message)
    }
  }
  const renewal = renewing(show)
  const change = async (path, told) => {
    try {
      await act(path)
      done = told
    } catch (error) {
      done = error.message
    }
    say(words, done)
    await renewal.again()
  }
  let known
  const refresh = (what) => {
    if (what !== 'change') return
    const now = JSON.stringify(box.status.patches)
    if (now === known) return
    known = now
    showRunning(running)
    void renewal.again()
  }
  const elements = [card('Now', running), card('Hold', hold, words), card('Patches', old, list), card('Runs', runs)]
  return { elements, refresh, close: renewal.close }
}

function comesHere() {
  return box.status.patches && !box.status.patches.off
}

function none() {
  const why = box.status.patches?.off ?? 'no etcd is named in its configuration'
  return { patches: [], words: `No patches come to this box: ${plain(why)}.` }
}

function listOf({ patches: found, words = 'No patches are known on this box.' }) {
  return found.length === 0 ? el('p', { class: 'note' }, words) : table('Patches', PATCHES, found.map(patchRow))
}

function runsOf({ runs }) {
  return runs.length === 0 ? el('p', { class: 'note' }, 'No patch has run on this box.') : table('Runs', RUNS, runs.map(runRow))
}

/** The button stays the same one while it means the same: whoever has the focus on it keeps it. */
function showHold(place, held, change) {
  if (place.dataset.held !== String(held !== undefined)) {
    const hadFocus = place.contains(document.activeElement)
    place.dataset.held = String(held !== undefined)
    const [press, text] = held === undefined ? [setHold, 'Hold patches…'] : [clearHold, 'End the hold…']
    place.replaceChildren(el('p', {}), el('button', { type: 'button', onclick: () => void press(change) }, text))
    if (hadFocus) place.lastElementChild.focus()
  }
  say(place.firstElementChild, held === undefined ? 'Patches may start here.' : holdLine(held))
}

/** `last`: how the one before ended, once it is known. */
function showRunning(place, last) {
  const now = box.status?.patches?.running
  if (now) {
    const text = stepWords(now)
    tellOnce(place, `${now.patch} ${text.split(/[:,]/)[0]}`)
    if (place.dataset.text === text) return
    place.dataset.text = text
    const names = stepsOf(now)
    const at = names.indexOf(now.step)
    const steps = names.map((step, index) =>
      el('li', { 'data-step': index < at ? 'done' : undefined, 'aria-current': index === at ? 'step' : undefined }, stepName(step)),
    )
    place.replaceChildren(el('p', {}, el('strong', {}, plain(now.patch)), ` ${text}`), el('ol', { class: 'steps' }, ...steps))
    return
  }
  delete place.dataset.text
  const ended = last && `${plain(last.patch)} ended at ${time(last.finishedAt)}: ${last.outcome}`
  if (last && place.dataset.told) tellOnce(place, ended)
  if (last || place.querySelector('.note') === null)
    renew(place, el('p', { class: 'note' }, `No patch runs.${last ? ` The last, ${ended}.` : ''}`))
}

/** To a screen reader: that it runs, that it is taken back, how it ended; not each step. */
function tellOnce(place, words) {
  if (place.dataset.told !== words) tellAll(words)
  place.dataset.told = words
}

async function setHold(change) {
  const howLong = el(
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
  const fields = [el('label', { class: 'field' }, 'For how long', howLong), el('label', { class: 'field' }, 'Why (others read it)', why)]
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
  const running = box.status.patches?.running
  return [
    el('span', { class: 'mono' }, plain(patch)),
    chip(TONES[state] ?? 'idle', state),
    channel === undefined ? '' : plain(`${channel} ${sequence ?? ''}${kind ? `, ${kind}` : ''}`),
    plain(running?.patch === patch ? `it ${stepWords(running)}` : local(because)),
  ]
}

function runRow({ patch, outcome, step, reason, finishedAt, seconds }) {
  return [
    el('span', { class: 'mono' }, plain(patch)),
    chip(TONES[outcome] ?? 'wait', outcome),
    time(finishedAt),
    stepName(step),
    span(seconds),
    plain(local(reason ?? '')),
  ]
}
