/** Lines over the last quarter of an hour, drawn by hand. */
import { el, svg } from './dom.js'
import { time } from './words.js'

const SPAN_MS = 15 * 60_000
/** Soon after a start the little that is known fills the width. */
const SPAN_MIN_MS = 3 * 60_000
const [LEFT, TOP, BOTTOM] = [46, 8, 20]

/**
 * Placed by the box's monotonic clock, so that a jump of the other one tears nothing.
 * `series`: { key, name, area? }; the key is also the style. Draw again with what is known by now.
 */
export function chart({ label, series, format, floor = 1, height = 220 }) {
  const figure = svg('svg', { class: 'chart', role: 'img', 'aria-label': label })
  figure.style.height = `${height}px`
  const values = series.map(() => el('b', {}))
  const keys = series.map(({ key }) =>
    svg('svg', { class: 'key', 'aria-hidden': 'true' }, svg('line', { x1: '0', x2: '18', y1: '4', y2: '4', class: `curve s-${key}` })),
  )
  const when = el('span', {})
  const legend = el('p', { class: 'legend' }, ...series.map(({ name }, i) => el('span', {}, keys[i], `${name} `, values[i])), when)
  const cross = svg('line', { class: 'cross', y1: `${TOP}`, y2: `${height - BOTTOM}`, visibility: 'hidden' })
  let points = []
  let pointed
  const legendOf = () => {
    const point = pointed ?? points.at(-1)
    series.forEach(({ key }, i) => (values[i].textContent = point === undefined ? '–' : format(point[key])))
    when.textContent = pointed === undefined ? '' : `at ${time(pointed.atMs)}`
  }
  const draw = (known, stepMs) => {
    points = known
    const width = figure.clientWidth || 600
    const end = points.at(-1)?.ms ?? 0
    const shown = points.filter(({ ms }) => ms > end - SPAN_MS)
    const spanMs = Math.max(SPAN_MIN_MS, Math.min(SPAN_MS, end - (shown[0]?.ms ?? end)))
    const top = niceTop(Math.max(floor, ...shown.flatMap((point) => series.map(({ key }) => point[key]))))
    const place = {
      x: (ms) => LEFT + ((ms - end + spanMs) / spanMs) * (width - LEFT - 6),
      y: (v) => height - BOTTOM - (v / top) * (height - TOP - BOTTOM),
    }
    figure.setAttribute('viewBox', `0 0 ${width} ${height}`)
    figure.replaceChildren(
      ...axes(place, { width, height, top, atMs: points.at(-1)?.atMs ?? Date.now(), spanMs }, format),
      ...series.flatMap((one) => curve(one, shown, place, stepMs)),
      cross,
    )
    const highest = series.map(
      ({ key, name }) =>
        `${name} now ${format(points.at(-1)?.[key] ?? 0)}, at most ${format(Math.max(0, ...shown.map((point) => point[key])))}`,
    )
    figure.setAttribute('aria-label', `${label}, last 15 minutes: ${highest.join('; ')}`)
    figure.onpointermove = ({ offsetX }) => {
      const at = end - spanMs + ((offsetX - LEFT) / (width - LEFT - 6)) * spanMs
      pointed = shown.reduce((near, point) => (near && Math.abs(near.ms - at) < Math.abs(point.ms - at) ? near : point), undefined)
      if (pointed === undefined) return
      cross.setAttribute('x1', place.x(pointed.ms))
      cross.setAttribute('x2', place.x(pointed.ms))
      cross.setAttribute('visibility', 'visible')
      legendOf()
    }
    legendOf()
  }
  figure.addEventListener('pointerleave', () => {
    pointed = undefined
    cross.setAttribute('visibility', 'hidden')
    legendOf()
  })
  return { figure, legend, draw }
}

function axes({ y }, { width, height, top, atMs, spanMs }, format) {
  const lines = [0, top / 2, top].flatMap((value) => [
    svg('line', { class: 'grid', x1: `${LEFT}`, x2: `${width - 6}`, y1: `${y(value)}`, y2: `${y(value)}` }),
    svg('text', { x: `${LEFT - 6}`, y: `${y(value) + 4}`, 'text-anchor': 'end' }, format(value)),
  ])
  const ticks = [1, 2 / 3, 1 / 3, 0].map((part) => {
    const x = LEFT + (1 - part) * (width - LEFT - 6)
    const anchor = part === 1 ? 'start' : part === 0 ? 'end' : 'middle'
    const minutes = +((part * spanMs) / 60_000).toFixed(1)
    return svg('text', { x: `${x}`, y: `${height - 4}`, 'text-anchor': anchor }, part === 0 ? time(atMs) : `−${minutes} min`)
  })
  return [...lines, ...ticks]
}

/** Broken where the daemon knew nothing. */
function curve({ key, area }, points, { x, y }, stepMs) {
  let path = ''
  const pieces = []
  points.forEach((point, i) => {
    const before = points[i - 1]
    const starts = before === undefined || point.ms - before.ms > 4 * stepMs
    if (starts) pieces.push([])
    pieces.at(-1).push(point)
    path += `${starts ? 'M' : 'L'}${x(point.ms).toFixed(1)} ${y(point[key]).toFixed(1)}`
  })
  const line = svg('path', { d: path, class: `curve s-${key}` })
  if (!area) return [line]
  const ground = pieces.map((piece) => {
    const edge = piece.map((point) => `L${x(point.ms).toFixed(1)} ${y(point[key]).toFixed(1)}`).join('')
    return `M${x(piece[0].ms)} ${y(0)}${edge}L${x(piece.at(-1).ms)} ${y(0)}Z`
  })
  return [svg('path', { d: ground.join(''), class: `area s-${key}` }), line]
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 4, 5, 10].find((step) => step * power >= value) * power
}
