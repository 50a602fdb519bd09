/** The box at a glance. */
import { chart } from './chart.js'
import { card, chip, el, plain, renew, say, table } from './dom.js'
import { box } from './live.js'
import { count, rate, short, size, span, stepWords, time } from './words.js'

const TILES = [
  ['In', ({ rates }) => [`${rate(rates.inPerSecond)} /s`, 'from devices']],
  ['Out', ({ rates }) => [`${rate(rates.outPerSecond)} /s`, 'confirmed by Kafka']],
  ['Shed', ({ rates, shed }) => [`${rate(rates.shedPerSecond)} /s`, `${count(sum(shed))} since start`]],
  [
    'Waiting',
    ({ buffer }) => [
      count(buffer.messages),
      buffer.oldestAgeSeconds === undefined ? 'nothing waits' : `oldest ${span(buffer.oldestAgeSeconds)}`,
    ],
  ],
  ['Devices', ({ devices, sources }) => deviceTile(devices, sources)],
  ['Dead letters', ({ buffer }) => [count(buffer.deadLetters), buffer.deadLetters === 0 ? 'none' : 'need a look']],
]

function sum(shed) {
  return Object.values(shed ?? {}).reduce((all, { messages }) => all + messages, 0)
}

function deviceTile(devices, sources) {
  const connections = sources.reduce((all, source) => all + (source.connections ?? 0), 0)
  if (!devices) return [count(connections), 'connections']
  return [count(devices.online), devices.silent > 0 ? `online, ${count(devices.silent)} silent` : 'online']
}

export function overview() {
  const tiles = TILES.map(([title, figures]) => {
    const [value, more] = [el('span', {}), el('small', {})]
    return { element: el('div', {}, el('dt', {}, title), el('dd', {}, value, more)), value, more, figures }
  })
  const rates = chart({
    label: 'Messages per second',
    format: (value) => short(value),
    series: [
      { key: 'in', name: 'in', area: true },
      { key: 'out', name: 'out' },
      { key: 'shed', name: 'shed' },
    ],
  })
  const backlog = chart({
    label: 'Messages in the buffer',
    format: (value) => short(value),
    floor: 10,
    height: 168,
    series: [{ key: 'backlog', name: 'waiting', area: true }],
  })
  const gauge = gaugeOf()
  const lanes = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Lanes' })
  const sources = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Links' })
  const more = el('section', { class: 'card' }, el('h2', {}, 'Worth knowing'))
  const facts = el('ul', {})
  more.append(facts)
  const element = el(
    'div',
    { class: 'pair' },
    card('Messages per second', rates.figure, rates.legend),
    card('Buffer', backlog.figure, backlog.legend, gauge.element, gauge.words),
    card('Lanes', lanes),
    card('Links', sources),
    more,
  )
  const draw = () => {
    rates.draw(box.points, box.stepMs)
    backlog.draw(box.points, box.stepMs)
  }
  const refresh = (what) => {
    if (what === 'point' || what === 'hello') draw()
    if (what !== 'change' && what !== 'hello') return
    const { status } = box
    for (const { value, more: small, figures } of tiles) {
      const [figure, words] = figures(status)
      say(value, figure)
      say(small, words)
    }
    gauge.show(status.buffer)
    renew(lanes, laneTable(status))
    renew(sources, linkTable(status))
    const told = notices(status)
    more.hidden = told.length === 0
    if (facts.textContent !== told.join('')) facts.replaceChildren(...told.map((line) => el('li', {}, plain(line))))
  }
  const resized = new ResizeObserver(draw)
  resized.observe(rates.figure)
  return {
    elements: [el('dl', { class: 'tiles' }, ...tiles.map((tile) => tile.element)), element],
    refresh,
    close: () => resized.disconnect(),
  }
}

function gaugeOf() {
  const bar = el('i', {})
  const element = el(
    'div',
    { class: 'gauge', role: 'meter', 'aria-label': 'Buffer used', 'aria-valuemin': '0', 'aria-valuemax': '100' },
    bar,
  )
  const words = el('p', {})
  const show = ({ usedBytes, maxBytes, fullInSeconds, blockedReason, freeDiskBytes }) => {
    const part = maxBytes > 0 ? Math.min(1, usedBytes / maxBytes) : 0
    bar.style.width = `${(part * 100).toFixed(1)}%`
    element.dataset.tone = part > 0.9 || blockedReason ? 'bad' : part > 0.6 ? 'wait' : 'ok'
    element.setAttribute('aria-valuenow', (part * 100).toFixed(0))
    const next = blockedReason ? 'it takes no more' : fullInSeconds === undefined ? 'it does not grow' : `full in ${span(fullInSeconds)}`
    element.setAttribute('aria-valuetext', `${size(usedBytes)} of ${size(maxBytes)}, ${next}`)
    say(words, `${size(usedBytes)} of ${size(maxBytes)} used · ${next} · ${size(freeDiskBytes)} free on the disk`)
  }
  return { element, words, show }
}

function laneTable({ lanes, whenFull }) {
  const columns = [
    { title: 'Lane', wide: true },
    { title: 'Waiting', num: true },
    { title: 'Oldest', num: true },
    { title: 'Size', num: true },
    { title: 'Delivered', num: true },
    { title: 'When full', full: true },
  ]
  const rows = Object.entries(lanes).map(([name, lane]) => [
    lane.blocked ? el('span', {}, `${name} `, chip('bad', 'full')) : name,
    count(lane.messages),
    span(lane.oldestAgeSeconds),
    size(lane.bytes),
    count(lane.delivered),
    { block: 'devices wait', 'drop-oldest': 'drops the oldest' }[whenFull[name]] ?? '',
  ])
  return table('Lanes of the buffer', columns, rows)
}

const TONES = { up: 'ok', down: 'bad', connecting: 'wait', full: 'bad', holding: 'wait' }

function linkTable({ sources, kafka }) {
  const columns = [
    { title: 'Link', wide: true },
    { title: 'State', full: true },
    { title: 'Received', num: true },
    { title: 'Connections', num: true },
  ]
  const links = sources.map((source) => [
    `mqtt.${source.kind}.${source.name}`,
    el('span', {}, chip(TONES[source.state] ?? 'wait', source.state), source.reason ? ` ${plain(source.reason)}` : ''),
    count(source.received.messages),
    count(source.connections),
  ])
  const waits = kafka.reason !== undefined && kafka.reason !== null
  const words = waits ? ` ${plain(kafka.reason)}, since ${time(kafka.since)}` : ` ${kafka.state}`
  const out = ['kafka', el('span', {}, chip(waits ? 'wait' : 'ok', waits ? 'waits' : 'flows'), words), '', '']
  return table('Links to devices and to Kafka', columns, [...links, out])
}

function notices({ configuration, buffer, sources, clockTrusted, patches }) {
  const overrides = configuration.overrides.map(
    ({ key, value, by, until, reason }) =>
      `Override: ${key} = ${JSON.stringify(value)} by ${by} until ${time(until)}${reason ? `: ${reason}` : ''}.`,
  )
  const leftOut = configuration.leftOut.map(({ label, reason }) => `Left out, since not valid here: ${label}: ${reason}`)
  const noted = [
    ...buffer.notices.map(({ text, at }) => `${time(at)} ${text}`),
    ...sources.flatMap((source) =>
      source.notices.map(
        ({ text, count: times, last }) => `${time(last)} ${source.name}: ${text}${times > 1 ? ` (${count(times)} times)` : ''}`,
      ),
    ),
  ]
  const clock = clockTrusted ? [] : ['The clock of the box can not be right: ages are not judged until it is.']
  const runs = patches?.running ? [`Patch ${patches.running.patch} ${stepWords(patches.running)}.`] : []
  const held = patches?.hold ? [`Patches are held until ${time(patches.hold.until)} by ${patches.hold.by}: ${patches.hold.reason}`] : []
  return [...clock, ...runs, ...held, ...overrides, ...leftOut, ...noted.slice(-8)]
}
