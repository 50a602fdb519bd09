/** Figures as people read them. */

export function count(value) {
  return value === undefined || value === null ? '–' : Math.round(value).toLocaleString('en-US').replaceAll(',', '\u202f')
}

export function rate(value) {
  return value === undefined ? '–' : value >= 100 || value === 0 ? count(value) : value.toFixed(1)
}

export function short(value) {
  if (value < 10_000) return value % 1 === 0 ? count(value) : value.toFixed(1)
  return value < 1e6 ? `${+(value / 1e3).toFixed(1)} k` : `${+(value / 1e6).toFixed(1)} M`
}

export function size(bytes) {
  if (bytes === undefined || bytes === null) return '–'
  const step = bytes < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** step
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][step]}`
}

/** Two units at most: `3 h 10 min`. */
export function span(seconds) {
  if (seconds === undefined || seconds === null) return '–'
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

const STEPS = {
  prepare: 'prepare',
  fetch: 'download',
  build: 'build',
  pre: 'hook before',
  flip: 'switch over',
  activate: 'start',
  verify: 'checks',
  bake: 'watch',
  commit: 'finish',
}
const BACK = { unflip: 'switch back', reactivate: 'start the old version', recheck: 'check the old version', discard: 'clean up' }

/** A step of a patch as people say it. */
export function stepName(step) {
  return STEPS[step] ?? BACK[step] ?? step
}

/** Names of the steps of that way, in order. */
export function stepsOf({ direction }) {
  return Object.keys(direction === 'forward' ? STEPS : BACK)
}

export function stepWords({ step, direction, broken, since, attempt }) {
  if (broken) return 'could not be taken back: a person is needed'
  const times = attempt > 1 ? `, attempt ${attempt}` : ''
  return `${direction === 'forward' ? 'runs' : 'is taken back'}: ${stepName(step)} since ${time(since)}${times}`
}

/** Times in a sentence of the daemon, in the browser's own zone. */
export function local(text) {
  return text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, time)
}

const pad = (value) => String(value).padStart(2, '0')

/** Of the browser's own clock and zone: `14:02:07`, with the day when it is another one. */
export function time(iso) {
  const at = new Date(iso)
  if (Number.isNaN(at.getTime())) return ''
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`
  return at.toDateString() === new Date().toDateString()
    ? clock
    : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`
}
