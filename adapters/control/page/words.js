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
