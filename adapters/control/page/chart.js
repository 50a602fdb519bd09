/** Lines over the last quarter of an hour, drawn by hand. */
import { el, svg } from './dom.js'
import { time } from './words.js'

const SPAN_MS = 15 * 60_000
const [LEFT, TOP, BOTTOM, HEIGHT] = [46, 8, 20, 168]

/** `series`: { key, name, area? }; the key is also the style. Draw again with what is known by now. */
export function chart({ label, series, format, floor = 1 }) {
  const figure = svg('svg', { class: 'chart', role: 'img', 'aria-label': label })
  const values = series.map(() => el('b', {}))
  const keys = series.map(({ key }) =>
    svg('svg', { class: 'key', 'aria-hidden': 'true' }, svg('line', { x1: '0', x2: '18', y1: '4', y2: '4', class: `curve s-${key}` })),
  )
  const when = el('span', {})
  const legend = el('p', { class: 'legend' }, ...series.map(({ name }, i) => el('span', {}, keys[i], `${name} `, values[i])), when)
  const cross = svg('line', { class: 'cross', y1: `${TOP}`, y2: `${HEIGHT - BOTTOM}`, visibility: 'hidden' })
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
    const end = points.at(-1)?.atMs ?? Date.now()
    const shown = points.filter(({ atMs }) => atMs > end - SPAN_MS)
    const top = niceTop(Math.max(floor, ...shown.flatMap((point) => series.map(({ key }) => point[key]))))
    const place = {
      x: (atMs) => LEFT + ((atMs - end + SPAN_MS) / SPAN_MS) * (width - LEFT - 6),
      y: (v) => HEIGHT - BOTTOM - (v / top) * (HEIGHT - TOP - BOTTOM),
    }
    figure.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`)
    figure.replaceChildren(...axes(place, width, top, end, format), ...series.flatMap((one) => curve(one, shown, place, stepMs)), cross)
    const highest = series.map(
      ({ key, name }) =>
        `${name} now ${format(points.at(-1)?.[key] ?? 0)}, at most ${format(Math.max(0, ...shown.map((point) => point[key])))}`,
    )
    figure.setAttribute('aria-label', `${label}, last 15 minutes: ${highest.join('; ')}`)
    figure.onpointermove = ({ offsetX }) => {
      const at = end - SPAN_MS + ((offsetX - LEFT) / (width - LEFT - 6)) * SPAN_MS
      pointed = shown.reduce((near, point) => (near && Math.abs(near.atMs - at) < Math.abs(point.atMs - at) ? near : point), undefined)
      if (pointed === undefined) return
      cross.setAttribute('x1', place.x(pointed.atMs))
      cross.setAttribute('x2', place.x(pointed.atMs))
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

function axes({ y }, width, top, end, format) {
  const lines = [0, top / 2, top].flatMap((value) => [
    svg('line', { class: 'grid', x1: `${LEFT}`, x2: `${width - 6}`, y1: `${y(value)}`, y2: `${y(value)}` }),
    svg('text', { x: `${LEFT - 6}`, y: `${y(value) + 4}`, 'text-anchor': 'end' }, format(value)),
  ])
  const ticks = [15, 10, 5, 0].map((minutes) => {
    const x = LEFT + ((15 - minutes) / 15) * (width - LEFT - 6)
    const anchor = minutes === 15 ? 'start' : minutes === 0 ? 'end' : 'middle'
    return svg('text', { x: `${x}`, y: `${HEIGHT - 4}`, 'text-anchor': anchor }, minutes === 0 ? time(end) : `−${minutes} min`)
  })
  return [...lines, ...ticks]
}

/** Broken where the daemon knew nothing. */
function curve({ key, area }, points, { x, y }, stepMs) {
  let path = ''
  const pieces = []
  points.forEach((point, i) => {
    const before = points[i - 1]
    const starts = before === undefined || point.atMs - before.atMs > 4 * stepMs
    if (starts) pieces.push([])
    pieces.at(-1).push(point)
    path += `${starts ? 'M' : 'L'}${x(point.atMs).toFixed(1)} ${y(point[key]).toFixed(1)}`
  })
  const line = svg('path', { d: path, class: `curve s-${key}` })
  if (!area) return [line]
  const ground = pieces.map((piece) => {
    const edge = piece.map((point) => `L${x(point.atMs).toFixed(1)} ${y(point[key]).toFixed(1)}`).join('')
    return `M${x(piece[0].atMs)} ${y(0)}${edge}L${x(piece.at(-1).atMs)} ${y(0)}Z`
  })
  return [svg('path', { d: ground.join(''), class: `area s-${key}` }), line]
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 4, 5, 10].find((step) => step * power >= value) * power
}
